"""Builds all that a run needs from a config: tokenizer, model, data, mesh, steps. No training."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from research.checkpoints import reading as checkpoint_reading
from research.config import Config
from research.data.loader import Batches
from research.data.tokenizer import Tokenizer
from research.models import kernels
from research.models import params as parameters
from research.models.config import ModelConfig
from research.objectives.objective import Loss, heads_of
from research.optim import groups, optimizer
from research.run import corpus
from research.run import step as steps
from research.run.guard import Guard
from research.run.loaded import objectives_of
from research.run.manifest import resolve
from research.run.step import State
from research.sharding import mesh as meshes
from research.sharding import rules
from research.tasks.task import Example, Task

# On GPU: sums in a fixed order, and no algorithm chosen by timing. No effect elsewhere.
DETERMINISTIC = {"xla_gpu_deterministic_ops": True}


@dataclasses.dataclass(frozen=True)
class Run:
    """A built run. `config` is resolved: it has the final shape and tokenizer."""

    config: Config
    tokenizer: Tokenizer
    model: ModelConfig
    objectives: tuple[Loss, ...]
    task: Task | None
    train: Batches
    validation: Batches
    mesh: Mesh
    steps: int
    eval_every: int  # steps; 0: only at the end
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    data_key: str
    measured_key: str  # fingerprint of the data that evaluations measure
    splits: Mapping[str, list[str]]  # how a task's splits were read, as lines for people
    validation_examples: list[Example]  # of a task: the examples behind `validation`

    @functools.cached_property
    def start_key(self) -> str:
        """The fingerprint of the checkpoint that the run starts from; "" without one."""
        start = self.config.init_from
        return checkpoint_reading.read_info(start).fingerprint if start else ""

    @functools.cached_property
    def heads(self) -> dict[str, nn.Module]:
        return heads_of(self.objectives, self.model)

    @functools.cached_property
    def param_shapes(self) -> Any:
        return parameters.shapes(self.model, self.heads)

    @functools.cached_property
    def param_shardings(self) -> Any:
        axes = parameters.logical_axes(self.model, self.heads)
        table = rules.table(self.config.mesh.rules)
        return rules.shardings(axes, self.param_shapes, self.mesh, table)

    @functools.cached_property
    def state_shardings(self) -> State:
        shapes = jax.eval_shape(self.optimizer.init, self.param_shapes)
        opt = rules.like_params(shapes, self.param_shardings, self.param_shapes, self.mesh)
        everywhere = meshes.replicated(self.mesh)
        losses = jax.tree.map(lambda _: everywhere, jax.eval_shape(self.guard.first_losses))
        return State(everywhere, self.param_shardings, opt, losses)

    @functools.cached_property
    def state_shapes(self) -> State:
        """Shapes, dtypes and shardings of a `State`."""
        opt_state = jax.eval_shape(self.optimizer.init, self.param_shapes)
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            State(
                jax.ShapeDtypeStruct((), "int32"),
                self.param_shapes,
                opt_state,
                jax.eval_shape(self.guard.first_losses),
            ),
            self.state_shardings,
        )

    @functools.cached_property
    def batch_sharding(self) -> NamedSharding:
        return meshes.batch_sharding(self.mesh)

    @functools.cached_property
    def rates(self) -> dict[str, np.ndarray]:
        """Path -> multipliers of the learning rate, one for each layer of a stacked parameter."""
        c = self.config.optimizer
        return groups.multipliers(self.param_shapes, c.rates, c.freeze, c.layer_decay)

    @functools.cached_property
    def frozen(self) -> Any:
        """A tree of bools that marks parameters without learning; None if all learn."""
        labels = groups.labels(self.param_shapes, self.rates)
        mask = jax.tree.map(lambda label: label == groups.FROZEN, labels)
        return mask if any(jax.tree.leaves(mask)) else None

    @property
    def guard(self) -> Guard:
        """How the train step treats bad steps."""
        train = self.config.train
        return Guard(train.on_bad_step == "skip", train.spike)

    @functools.cached_property
    def train_step(self) -> Callable:
        """The jitted step; the state is donated."""
        function = steps.make_train_step(
            self.model,
            self.objectives,
            self.optimizer,
            self.config.seed,
            self.config.train.accumulation,
            uses_dropout=self.uses_dropout,
            frozen=self.frozen,
            guard=self.guard,
        )
        return jax.jit(
            function,
            in_shardings=(self.state_shardings, self.batch_sharding),
            out_shardings=(self.state_shardings, meshes.replicated(self.mesh)),
            donate_argnums=0,
            compiler_options=self._compiler_options,
        )

    @functools.cached_property
    def eval_step(self) -> Callable:
        return self._of_batch(steps.make_eval_step(self.model, self.objectives))

    @functools.cached_property
    def measure_step(self) -> Callable:
        return self._of_batch(steps.make_measure_step(self.model, self.objectives[0]))

    def _of_batch(self, function: Callable) -> Callable:
        """Jits (params, batch) -> results that are replicated on all devices."""
        return jax.jit(
            function,
            in_shardings=(self.param_shardings, self.batch_sharding),
            out_shardings=meshes.replicated(self.mesh),
            compiler_options=self._compiler_options,
        )

    @property
    def _compiler_options(self) -> dict[str, bool] | None:
        return DETERMINISTIC if self.config.train.deterministic else None

    @functools.cached_property
    def attention(self) -> str:
        """The attention kernel of training; a mixture of objectives may use two."""
        length, dropout = self.config.data.length, self.uses_dropout
        with meshes.use(self.mesh, self.config.mesh):
            names = [
                kernels.choose(self.model, length, dropout, o.pattern) for o in self.objectives
            ]
        return " and ".join(dict.fromkeys(names))

    @property
    def uses_dropout(self) -> bool:
        head = getattr(self.config.task, "dropout", 0.0) if self.task else 0.0
        adapters = self.model.lora_dropout if self.model.lora_rank else 0.0
        return max(self.model.dropout, self.model.attention_dropout, head, adapters) > 0.0


def build(config: Config, devices: Sequence[jax.Device] | None = None, quiet: bool = False) -> Run:
    """Resolves the config, and builds tokenizer, data and steps.

    Raises UserError for anything that does not fit, before any parameter exists.
    """
    mesh = meshes.make_mesh(config.mesh, devices)
    asked, manifest = config.task, resolve(config)
    config, tokenizer = manifest.config, manifest.tokenizer
    if config.task != asked and not quiet:
        print(f"labels of {config.data.train.name}: {', '.join(config.task.labels)}", flush=True)
    rows = meshes.row_multiple(mesh)
    objectives, task = objectives_of(config, tokenizer)
    if task is None:
        make, losses = corpus.pretraining, objectives
    else:
        make, losses = corpus.for_task, task
    data = make(config.data, config.train, losses, config.seed, tokenizer, rows, quiet)
    return lay_out(config, tokenizer, objectives, task, data, mesh)


def lay_out(
    config: Config,
    tokenizer: Tokenizer,
    objectives: tuple[Loss, ...],
    task: Task | None,
    data: corpus.Data,
    mesh: Mesh,
) -> Run:
    """Returns the run of a resolved config on its data: number of steps, optimizer, placement.

    Raises UserError for rows or patterns that do not fit.
    """
    meshes.check_length(config.mesh, mesh.shape, config.data.length)
    train = config.train
    # Counting the batches of a large corpus takes long: only if an epoch's length is needed.
    batches = data.train.epoch_batches(0) if train.epochs or train.eval_epochs else 0
    items = train.examples or train.tokens
    total = optimizer.run_steps(train.steps, train.epochs, batches, items, train.batch_size)
    every = train.eval_every or round(train.eval_epochs * batches)
    shapes = parameters.shapes(config.model, heads_of(objectives, config.model))
    run = Run(
        config=config,
        tokenizer=tokenizer,
        model=config.model,
        objectives=objectives,
        task=task,
        train=data.train,
        validation=data.validation,
        mesh=mesh,
        steps=total,
        eval_every=max(1, every) if train.eval_epochs else every,
        optimizer=optimizer.make(config.optimizer, total, shapes),
        schedule=optimizer.schedule(config.optimizer, total),
        data_key=data.key,
        measured_key=data.measured_key,
        splits=data.splits,
        validation_examples=data.validation_examples,
    )
    run.attention  # noqa: B018  (raises for a kernel that cannot run, before anything exists)
    return run


def describe(run: Run) -> str:
    """Describes parameters, rows, steps and checkpoints in a few lines."""
    count = parameters.count(run.param_shapes["backbone"], run.model)
    heads = parameters.count({"heads": run.param_shapes["heads"]}, run.model)
    layout = run.config.data
    lines = [
        f"parameters: backbone {count:,}, heads {heads:,} ({', '.join(run.heads) or 'tied'})",
        f"rows of {layout.length} positions, {run.steps:,} steps, about "
        f"{run.train.about_epoch_batches():,} a pass over the data; mesh {dict(run.mesh.shape)}, "
        f"attention {run.attention}",
    ]
    lines += groups.table(run.param_shapes, run.rates, run.config.optimizer.learning_rate)
    lines += rules.told(rules.fallbacks(run.param_shardings, run.param_shapes))
    lines.append(f"checkpoints: {_when_saved(run)}")
    return "\n".join(lines)


def _when_saved(run: Run) -> str:
    train = run.config.train
    when = [f"every {train.checkpoint_every:,} steps"] if train.checkpoint_every else []
    if train.checkpoint_minutes:
        when.append(f"every {train.checkpoint_minutes:g} minutes")
    return f"{', '.join(when)} and at the end" if when else "only at the end"

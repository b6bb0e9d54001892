"""Evaluates a run on its validation split during training: the losses and the task's metrics."""

from collections.abc import Callable
from typing import Any

import jax

from research import tasks
from research.config import Config
from research.evaluation import evaluator, samples
from research.objectives import measures
from research.run import best
from research.run.run import Run
from research.sharding import mesh as meshes


def check(run: Run) -> None:
    """Raises UserError, before training, if no evaluation gives the metric `config.train.best`."""
    train = run.config.train
    if train.best or train.patience:
        evaluates = 0 < run.eval_every <= run.steps
        best.check(train.best, train.patience, evaluates, names(run))


def names(run: Run) -> set[str]:
    """The names of an evaluation's metrics: those of the losses, and those of a task that reads the
    model's outputs alone. A task that generates is measured on the run's samples, if it has any:
    generating for the whole split would take too long."""
    with meshes.use(run.mesh, run.config.mesh):
        shapes = jax.eval_shape(run.eval_step, run.param_shapes, run.validation.batch(0))
    of_losses = evaluator.loss_metrics({name: 1.0 for name in shapes}, run.objectives)
    own = tasks.metrics(run.config.task) if _is_read(run) else ()
    return {*of_losses, *samples.names(run.config), *own}


def _is_read(run: Run) -> bool:
    """Whether the task's metrics are read from the model's outputs, without generating."""
    return run.task is not None and run.task.prompt is None


def known(config: Config) -> list[str]:
    """The same names from the config of a run that is not built, including those that exist only if
    bytes are counted."""
    if config.task is None:
        return measures(config.objective)
    generates = tasks.of(config.task).generates
    own = samples.names(config) if generates else tasks.metrics(config.task)
    return [*tasks.measures(config.task), *own]


def metrics(run: Run, params: Any, between: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Metrics of the losses and of the task over the split or its first `eval_batches`; over all of
    it if `best` is one of the task's metrics. `between` as in `evaluator.losses`."""
    train = run.config.train
    if not _is_read(run):
        return evaluator.losses(
            run.eval_step,
            params,
            run.validation,
            run.objectives,
            run.batch_sharding,
            train.eval_steps,
            between,
        )
    own = tasks.metrics(run.config.task)
    measured = evaluator.task_metrics(
        run.measure_step,
        params,
        run.task,
        run.validation,
        run.validation_examples,
        run.batch_sharding,
        0 if train.best in own else train.eval_steps,
        between,
    )
    # Without metrics of single labels, "f1/PER", which not every evaluation has.
    return {name: value for name, value in measured.items() if "/" not in name}

"""Loads a trained model from its checkpoint for use: no data, no optimizer, no training."""

import dataclasses

import jax
from jax.sharding import Mesh

from research.checkpoints import reading as checkpoint_reading
from research.checkpoints.reading import Info
from research.config import Config, of_checkpoint
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.models import params as parameters
from research.models.config import ModelConfig
from research.models.params import Params
from research.objectives import make_objectives
from research.objectives.objective import Loss, heads_of
from research.sharding import mesh as meshes
from research.sharding import rules
from research.sharding.mesh import MeshConfig
from research.tasks import make_task
from research.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A checkpoint's model. `task` is None for a pre-trained model; `objectives` are empty for an
    imported model without heads."""

    params: Params
    model: ModelConfig
    tokenizer: Tokenizer
    config: Config
    info: Info | None  # None for weights that are still being trained
    objectives: tuple[Loss, ...]
    task: Task | None
    mesh: Mesh
    placement: MeshConfig  # the config of the mesh


def objectives_of(config: Config, tokenizer: Tokenizer) -> tuple[tuple[Loss, ...], Task | None]:
    """Returns the objectives of a config whose model shape is known, and its task if it has one."""
    if config.objective is not None:
        objectives = make_objectives(config.objective)
        heads_of(objectives, config.model)  # raises if the model lacks what an objective reads
        return objectives, None
    data = config.data
    task = make_task(config.task, config.model, tokenizer, data.length, data.segments)
    return (task,), task


def load_model(path: str, mesh: MeshConfig | None = None) -> Loaded:
    """Loads the newest good step of a run, or the step that `path` names.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        mesh: mesh of this machine, whatever the checkpoint was trained on; default: params on
            every device, rows split between them.

    Raises:
        UserError: the checkpoint is missing or damaged, or its parameters differ from those of its
            config; each differing parameter is named.
    """
    info = checkpoint_reading.read_info(path)
    config = of_checkpoint(info.config, path)
    tokenizer = Tokenizer.from_json(info.tokenizer_json)
    # The kernel that training used may not run on this machine.
    model = dataclasses.replace(config.model, attention="auto")
    config = dataclasses.replace(config, model=model)
    objectives, task = objectives_of(config, tokenizer)
    if "backbone" not in info.shapes:
        raise UserError(f"the checkpoint {path} has no backbone, only {', '.join(info.shapes)}")
    mesh = mesh or MeshConfig()
    devices = meshes.make_mesh(mesh)
    heads = heads_of(objectives, model)
    shapes = parameters.shapes(model, heads)
    axes = parameters.logical_axes(model, heads)
    placed = rules.shardings(axes, shapes, devices, rules.table(mesh.rules))
    wanted = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        placed,
    )
    info, params = checkpoint_reading.restore_params(path, wanted)
    return Loaded(params, model, tokenizer, config, info, objectives, task, devices, mesh)


def with_config(loaded: Loaded, config: Config) -> Loaded:
    """Returns the same weights with the objectives or task and the data of another config.

    Raises UserError if those need a head that the weights lack.
    """
    config = dataclasses.replace(config, model=loaded.model)
    objectives, task = objectives_of(config, loaded.tokenizer)
    wanted = parameters.shapes(loaded.model, heads_of(objectives, loaded.model))["heads"]
    missing = wanted.keys() - loaded.params["heads"].keys()
    if missing:
        raise UserError(
            f"the weights have no head {', '.join(sorted(missing))}, which "
            f"{task.name if task else 'the objective'} needs; train it first"
        )
    return dataclasses.replace(loaded, config=config, objectives=objectives, task=task)


def require_head(loaded: Loaded, path: str) -> Loaded:
    """Returns `loaded`. Raises UserError if it was imported without a head."""
    if not loaded.objectives:
        raise UserError(
            f"{path} has no head, so it cannot predict; add one by fine-tuning: "
            f"--config.init_from={path}"
        )
    return loaded

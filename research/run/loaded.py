"""A trained model from its checkpoint, ready to be used: without data, optimizer or training."""

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
    """A checkpoint's model. `task` is None for a pre-trained one; `objectives` are empty for an
    imported one without heads."""

    params: Params
    model: ModelConfig
    tokenizer: Tokenizer
    config: Config
    info: Info | None  # None: of weights that are being trained
    objectives: tuple[Loss, ...]
    task: Task | None
    mesh: Mesh
    placement: MeshConfig  # what the mesh was made from


def objectives_of(config: Config, tokenizer: Tokenizer) -> tuple[tuple[Loss, ...], Task | None]:
    """The objectives of a config with a known shape, and its task if it has one."""
    if config.objective is not None:
        objectives = make_objectives(config.objective)
        heads_of(objectives, config.model)  # raises where the model lacks what one reads
        return objectives, None
    data = config.data
    task = make_task(config.task, config.model, tokenizer, data.length, data.segments)
    return (task,), task


def load_model(path: str, mesh: MeshConfig | None = None) -> Loaded:
    """Loads the newest good step of a run, or the step that is named.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        mesh: of this machine, whatever the checkpoint was trained on; default: params on every
            device, rows split between them.

    Raises:
        UserError: no checkpoint there, or a damaged one; or one whose parameters are not those of
            its config, each named.
    """
    info = checkpoint_reading.read_info(path)
    config = of_checkpoint(info.config, path)
    tokenizer = Tokenizer.from_json(info.tokenizer_json)
    # Which kernel training took says nothing of this machine.
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
    """The same weights asked as `config` says: its objectives or task, on its data.

    Raises UserError where they have a head that the weights do not have.
    """
    config = dataclasses.replace(config, model=loaded.model)
    objectives, task = objectives_of(config, loaded.tokenizer)
    wanted = parameters.shapes(loaded.model, heads_of(objectives, loaded.model))["heads"]
    missing = wanted.keys() - loaded.params["heads"].keys()
    if missing:
        raise UserError(
            f"the weights have no head {', '.join(sorted(missing))}, which "
            f"{task.name if task else 'the objective'} needs; training makes it"
        )
    return dataclasses.replace(loaded, config=config, objectives=objectives, task=task)


def require_head(loaded: Loaded, path: str) -> Loaded:
    """Returns `loaded`. Raises UserError where it was imported without a head."""
    if not loaded.objectives:
        raise UserError(
            f"{path} has no head, so it predicts nothing; give it one by fine-tuning: "
            f"--config.init_from={path}"
        )
    return loaded

"""Vectors of texts: the backbone's hidden states, pooled (feature-based use)."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from research.data.batch import Layout
from research.errors import UserError, nearest
from research.evaluation import evaluator
from research.models.attention import Pattern
from research.monitoring.progress import Progress
from research.objectives.objective import Loss, Reader
from research.run.loaded import Loaded
from research.run.step import make_predict_step
from research.sharding import mesh as meshes
from research.tasks import pooled as sequences
from research.tasks.task import Example

NAME = "embedding"
KIND = "classification"  # of its examples: a text or a pair of texts
POOLINGS = ("mean", "first", "pooler", "last")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the hidden states of a text become its vector.

    normalize: to length 1. prompts: name -> what is put before a text; prompt: the name of the one
    that is, "" for none. similarity: how two vectors are compared, "" where nothing says it.
    """

    pooling: str = "mean"
    normalize: bool = False
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prompt: str = ""
    similarity: str = ""


def recipe_of(loaded: Loaded) -> Recipe | None:
    """What the folder that a checkpoint was imported from asks for; None if it asks nothing."""
    stored = loaded.info.meta.get("vectors")
    return Recipe(**stored) if stored else None


def embed(
    loaded: Loaded,
    examples: Sequence[Example],
    recipe: Recipe | None = None,
    quiet: bool = True,
) -> np.ndarray:
    """One vector for each example ("text", or "text_a" and "text_b"), float32 [N, D].

    Texts longer than a row are cut at their end. Without a recipe it is the checkpoint's own, or
    else the mean.

    Raises UserError for an unknown pooling or prompt, or a pooler that the backbone does not have.
    """
    recipe = recipe or recipe_of(loaded) or Recipe()
    pooling = recipe.pooling
    if pooling not in POOLINGS:
        raise UserError(f"--pooling={pooling} is not known{nearest(pooling, POOLINGS)}")
    if pooling == "pooler" and not loaded.model.pooler:
        raise UserError("--pooling=pooler: this backbone has no pooler; mean, first and last work")
    if recipe.prompt and recipe.prompt not in recipe.prompts:
        raise UserError(
            f"--prompt={recipe.prompt} is not known{nearest(recipe.prompt, recipe.prompts)}"
        )
    before = recipe.prompts[recipe.prompt] if recipe.prompt else ""
    examples = [_prompted(example, before) for example in examples]
    reader, mesh = _reader(loaded, pooling), loaded.mesh
    step = jax.jit(
        make_predict_step(loaded.model, reader.objective), out_shardings=meshes.replicated(mesh)
    )
    progress = Progress(len(examples), "embed", unit="text", active=not quiet)
    with meshes.use(mesh, loaded.placement), progress:
        found = evaluator.predictions(
            step,
            loaded.params,
            reader,
            examples,
            loaded.tokenizer.pad,
            meshes.batch_sharding(mesh),
            row_multiple=meshes.row_multiple(mesh),
            progress=progress.update,
        )
    vectors = np.array([x["vector"] for x in found], np.float32)
    vectors = vectors.reshape(len(found), loaded.model.width)
    if recipe.normalize:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def _prompted(example: Example, before: str) -> Example:
    first = "text" if "text" in example else "text_a"
    return {**example, first: before + example[first]}


class _Vectors(Loss):
    """Hidden states without a head, pooled; nothing is learnt."""

    name = NAME

    def __init__(self, pattern: Pattern, pooling: str):
        self.pattern, self.pooling = pattern, pooling

    def outputs(self, params, model, hidden, batch):
        vector = sequences.pooled(params, model, hidden, batch, self.pooling)
        return {"slot": {"vector": vector}}


def _reader(loaded: Loaded, pooling: str) -> Reader:
    data = loaded.config.data
    # An imported backbone without a head says itself how it attends.
    patterns = [o.pattern for o in loaded.objectives] or [loaded.info.meta.get("pattern", "full")]

    def slots(example, number, labelled):
        slot = sequences.text_slot(loaded.tokenizer, example, data.length)
        return [dataclasses.replace(slot, example=number, weight=0.0)]

    return Reader(
        Layout(data.length, data.slots),
        _Vectors(patterns[0], pooling),
        slots,
        lambda example, slots, outputs: {"vector": outputs[0]["vector"]},
        lambda example, prediction: "",
    )

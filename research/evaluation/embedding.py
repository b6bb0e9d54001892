"""Embeds texts: pools the backbone's hidden states into vectors (feature-based use)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from research.data.batch import Layout
from research.errors import UserError, nearest
from research.evaluation import predictor
from research.models.attention import Pattern
from research.monitoring.progress import Progress
from research.objectives.objective import Loss, Reader
from research.run.loaded import Loaded
from research.tasks import pooled as sequences
from research.tasks.task import Example

NAME = "embedding"
KIND = "classification"  # kind of the examples: a text or a pair of texts
POOLINGS = ("mean", "first", "pooler", "last")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the hidden states of a text become its vector.

    normalize: whether vectors get length 1. prompts: name -> prefix of a text; prompt: name of the
    prefix in use, "" for none. similarity: how two vectors are compared, "" if unknown.
    """

    pooling: str = "mean"
    normalize: bool = False
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prompt: str = ""
    similarity: str = ""


def recipe_of(loaded: Loaded) -> Recipe | None:
    """The recipe of the folder that a checkpoint was imported from; None if it had none."""
    stored = loaded.info.meta.get("vectors")
    return Recipe(**stored) if stored else None


def embed(
    loaded: Loaded,
    examples: Sequence[Example],
    recipe: Recipe | None = None,
    quiet: bool = True,
) -> np.ndarray:
    """Returns a vector for each example ("text", or "text_a" and "text_b"), float32 [N, D].

    Texts longer than a row lose their end. The default recipe is the checkpoint's own, or else
    the mean.

    Raises UserError for an unknown pooling or prompt, or if the backbone lacks the pooler.
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
    prefix = recipe.prompts[recipe.prompt] if recipe.prompt else ""
    request = predictor.Request.of(
        _reader(loaded, pooling), [_prefixed(example, prefix) for example in examples]
    )
    progress = Progress(len(examples), "embed", unit="text", active=not quiet)
    predictions = predictor.read(loaded, [request], progress)
    vectors = np.array([prediction["vector"] for prediction in predictions], np.float32)
    vectors = vectors.reshape(len(examples), loaded.model.width)
    if recipe.normalize:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def _prefixed(example: Example, prefix: str) -> Example:
    first = "text" if "text" in example else "text_a"
    return {**example, first: prefix + example[first]}


class _Vectors(Loss):
    """Pooled hidden states without a head; it is never trained."""

    name = NAME

    def __init__(self, pattern: Pattern, pooling: str):
        self.pattern, self.pooling = pattern, pooling

    def outputs(self, params, model, hidden, batch):
        vector = sequences.pooled(params, model, hidden, batch, self.pooling)
        return {"segment": {"vector": vector}}


def _reader(loaded: Loaded, pooling: str) -> Reader:
    data = loaded.config.data
    # An imported backbone without a head has its attention pattern in meta.
    patterns = [o.pattern for o in loaded.objectives] or [loaded.info.meta.get("pattern", "full")]

    def segments(example, number, labelled):
        segment = sequences.text_segment(loaded.tokenizer, example, data.length)
        return [dataclasses.replace(segment, example=number, weight=0.0)]

    return Reader(
        Layout(data.length, data.segments),
        _Vectors(patterns[0], pooling),
        segments,
        lambda example, segments, outputs: {"vector": outputs[0]["vector"]},
        lambda example, prediction: "",
    )

"""The base class of tasks that read one vector per segment, such as sequence classification.

Axes: R rows, L positions of a row, S segments of a row, C outputs of the head, D width.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.data.batch import Segment, framed
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.models import dropout, heads, transformer
from research.models.config import ModelConfig
from research.objectives.objective import Example
from research.tasks.task import Task

Pooling = Literal["auto", "pooler", "first", "mean", "last"]


def pooled(
    params: Any, model: ModelConfig, hidden: Float[Array, "R L D"], batch: Mapping, pooling: str
) -> Float[Array, "R S D"]:
    """Returns one vector per segment."""
    pooling = chosen(pooling, model)
    if pooling == "pooler":
        return transformer.pool(params["backbone"], model, hidden, batch["first"])
    if pooling in ("first", "last"):
        return transformer.gather(hidden, batch[pooling])
    count = batch["first"].shape[1]
    member = jax.nn.one_hot(batch["segments"] - 1, count, dtype=hidden.dtype)  # [R, L, S]
    sums = jnp.einsum("rld,rls->rsd", hidden, member)
    return sums / jnp.maximum(member.sum(1)[..., None], 1)


def chosen(pooling: Pooling, model: ModelConfig) -> Pooling:
    """Resolves "auto": the pooler if the backbone has one, else the first token."""
    return ("pooler" if model.pooler else "first") if pooling == "auto" else pooling


def text_segment(tokenizer: Tokenizer, example: Example, length: int) -> Segment:
    """Returns the segment of an example's text or pair of texts."""
    names = ("text",) if "text" in example else ("text_a", "text_b")
    return framed(tokenizer, [tokenizer.encode(example[n]).ids for n in names], length)


def text_of(example: Example) -> str:
    """Returns an example's text or texts in one line."""
    return example["text"] if "text" in example else f"{example['text_a']} / {example['text_b']}"


class Pooled(Task):
    """A head with `classes` outputs on one vector per segment. `options` has `pooling`, and
    `dropout` before the head."""

    kind = "classification"
    forms = ((("text",), "its label"), (("text_a", "text_b"), "the label of the pair"))

    @property
    def pattern(self):
        """Pooling by the last token needs causal attention."""
        return "causal" if self.options.pooling == "last" else "full"

    @property
    def head_name(self):
        return "sequence_classification"

    @property
    def classes(self) -> int:
        """The number of the head's outputs."""
        return len(self.options.labels)

    def head(self, model):
        """Raises UserError if the backbone lacks the pooler; with "auto" only if the tokenizer
        also lacks [CLS], whose vector would stand for the text."""
        pooling = self.options.pooling
        headless = pooling == "auto" and self.tokenizer.cls is None
        if (pooling == "pooler" or headless) and not model.pooler:
            raise UserError(
                f"config.task.pooling={pooling!r} but the backbone has no pooler"
                f"{' and the tokenizer no [CLS]' if headless else ''}; valid: 'first', 'mean', "
                "'last', or a new pooler: --config.model.pooler=true"
            )
        return heads.Classifier(model, self.classes, bias=pooling != "last")

    def logits(
        self,
        params: Any,
        model: ModelConfig,
        hidden: Float[Array, "R L D"],
        batch: Mapping,
        row_keys: Array | None = None,
    ) -> Float[Array, "R S C"]:
        """Returns the outputs of the head."""
        x = pooled(params, model, hidden, batch, self.options.pooling)
        if row_keys is not None:
            keys = dropout.keys(row_keys, dropout.HEAD)
            x = dropout.rows(x, self.options.dropout, keys)
        return self.head_of(params, model, x)

    def segments(self, example, number, labelled):
        segment = text_segment(self.tokenizer, example, self.layout.length)
        return [dataclasses.replace(segment, example=number, **self.gold(example, labelled))]

    def gold(self, example: Example, labelled: bool) -> dict[str, Any]:
        """Returns `labels` or `values` of an example's segment; any values if not labelled."""
        raise NotImplementedError

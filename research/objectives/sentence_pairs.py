"""Binary classification of sentence pairs: the base of next sentence and sentence order."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data import plan
from research.errors import UserError
from research.models import heads, transformer
from research.objectives.objective import Objective, sums
from research.values import Share


@dataclasses.dataclass(frozen=True)
class SentencePairsConfig:
    """How pairs are made.

    Attributes:
      short: share of pairs that fill only a random part of the room left in the row.
    """

    short: Share = 0.1


class SentencePairs(Objective):
    """A classifier on the first token of each pair, through the backbone's pooler or, without one,
    through the head's own transform.

    label: the batch's array [R, S] of classes; negative for a segment that is not a pair.
    classes: the meaning of each class.
    """

    plans = True
    asks = ("text_a", "text_b")
    gives = "how probably B is the sentence after A"
    Options = SentencePairsConfig
    label: ClassVar[str]
    classes: ClassVar[tuple[str, str]]

    def extend_layout(self, layout):
        return dataclasses.replace(layout, labels=(*layout.labels, self.label))

    def describe_segment(self, batch, row, segment):
        label = batch[self.label][row, segment]
        return self.classes[label] if label >= 0 else ""

    def sentences(self, text):
        """Returns the token offsets of each document's sentences in a block, the end last."""
        offsets = text.block.sentence_offsets()
        return [o if read else [0] for o, read in zip(offsets, text.read, strict=True)]

    def head(self, model):
        """Raises UserError if neither the backbone nor the head has a transform."""
        if not (model.pooler or model.head_transform):
            raise UserError(
                f"config.objective.{self.name} reads the pooler, which the backbone lacks; set "
                f"config.model.pooler=true, or config.objective.{self.name}=none"
            )
        return heads.Classifier(model, classes=2)

    def _logits(self, params, model, hidden, batch):
        if model.pooler:
            first = transformer.pool(params["backbone"], model, hidden, batch["first"])
        else:
            first = transformer.gather(hidden, batch["first"])
        return self.head_of(params, model, first)

    def _paired(self, batch):
        return batch["segment_weights"] * (batch[self.label] >= 0)

    def weight(self, batch):
        return jnp.sum(self._paired(batch))

    def loss(self, params, model, hidden, batch, row_keys):
        scores = self._logits(params, model, hidden, batch)
        classes, weights = jnp.maximum(batch[self.label], 0), self._paired(batch)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, classes)
        return sums(losses, jnp.argmax(scores, -1) == classes, weights)

    def loss_metrics(self, counts):
        if not counts["count"]:  # a source, or a batch, without a pair
            return {}
        return super().loss_metrics(counts)

    def outputs(self, params, model, hidden, batch):
        probability = jax.nn.softmax(self._logits(params, model, hidden, batch))
        return {"segment": {"probability": probability}}

    def read(self, tokenizer, outputs):
        """Returns the probability that "text_b" follows "text_a"."""
        return {"next_sentence_probability": round(float(outputs["probability"][0]), 6)}

    def show(self, example, prediction):
        share = prediction["next_sentence_probability"]
        return f"{example['text_a']} / {example['text_b']} → next sentence with {share:.1%}"


def next_size(rows: plan.Rows, specials: int, short: float, rng: np.random.Generator) -> int:
    """Returns the tokens of the next pair: as many as the row has left or, with probability
    `short`, a random part of them. specials: special tokens of its segment."""
    room = rows.room(specials + max(2, min(16, rows.length // 8))) - specials
    return room if rng.random() >= short else int(rng.integers(2, room + 1))


def shortened(
    a: tuple[int, int], b: tuple[int, int], room: int, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Cuts two slices (start, end) to at most `room` tokens together: the longer one first, each
    token at a randomly drawn end."""
    sizes = a[1] - a[0], b[1] - b[0]
    excess = max(0, sum(sizes) - room)
    from_a = min(excess, max(0, sizes[0] - sizes[1]))
    from_b = min(excess, max(0, sizes[1] - sizes[0]))
    rest = excess - from_a - from_b
    from_a, from_b = from_a + rest // 2, from_b + rest - rest // 2
    if excess:
        front_a, front_b = int(rng.binomial(from_a, 0.5)), int(rng.binomial(from_b, 0.5))
        a = a[0] + front_a, a[1] - (from_a - front_a)
        b = b[0] + front_b, b[1] - (from_b - front_b)
    return a, b

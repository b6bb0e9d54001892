"""What next sentence and sentence order prediction share: two classes of sentence pairs."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from research.errors import UserError
from research.models import heads, transformer
from research.objectives.objective import Objective


class SentencePairs(Objective):
    """A classifier on the first token of each pair, through the backbone's pooler or, where heads
    have one, through the head's own transform.

    label: the batch's array [R, S] of classes; below 0 for a slot that is not a pair.
    classes: what they mean.
    """

    plans = True
    asks = ("text_a", "text_b")
    gives = "how probably B is the sentence after A"
    label: ClassVar[str]
    classes: ClassVar[tuple[str, str]]

    def check(self):
        if not 0.0 <= self.options.short <= 1.0:
            short = f"config.objective.{self.name}.short={self.options.short}"
            raise UserError(f"{short} must be in [0, 1]")

    def extend_layout(self, layout):
        return dataclasses.replace(layout, labels=(*layout.labels, self.label))

    def describe_slot(self, batch, row, slot):
        label = batch[self.label][row, slot]
        return self.classes[label] if label >= 0 else ""

    def sentences(self, text):
        """For each document of a block its sentences' token offsets, the end last."""
        offsets = text.block.sentence_offsets()
        return [o if read else [0] for o, read in zip(offsets, text.read, strict=True)]

    def head(self, model):
        """Raises UserError where neither the backbone nor the head has a transform."""
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
        return self.head(model).apply({"params": params["heads"][self.name]}, first)

    def _paired(self, batch):
        return batch["slot_weights"] * (batch[self.label] >= 0)

    def weight(self, batch):
        return jnp.sum(self._paired(batch))

    def loss(self, params, model, hidden, batch, row_keys):
        scores = self._logits(params, model, hidden, batch)
        classes, weights = jnp.maximum(batch[self.label], 0), self._paired(batch)
        logp = jax.nn.log_softmax(scores)
        losses = -jnp.take_along_axis(logp, classes[..., None], -1)[..., 0]
        correct = (jnp.argmax(scores, -1) == classes).astype(jnp.float32)
        total = jnp.sum(losses * weights)
        right, count = jnp.sum(correct * weights), self.weight(batch)
        return total, {"loss": total, "correct": right, "count": count}

    def metrics(self, counts):
        if not counts["count"]:  # a source, or a batch, without a pair
            return {}
        return super().metrics(counts)

    def outputs(self, params, model, hidden, batch):
        probability = jax.nn.softmax(self._logits(params, model, hidden, batch))
        return {"slot": {"probability": probability}}

    def read(self, outputs):
        """Whether "text_b" follows "text_a"."""
        return {"next_sentence_probability": round(float(outputs["probability"][0]), 6)}

    def show(self, example, prediction):
        share = prediction["next_sentence_probability"]
        return f"{example['text_a']} / {example['text_b']} → next sentence with {share:.1%}"


def truncated(a: int, b: int, room: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Tokens to cut from (front of A, back of A, front of B, back of B), the longer one first."""
    excess = a + b - room
    if excess <= 0:
        return 0, 0, 0, 0
    from_a = min(excess, max(0, a - b))
    from_b = min(excess, max(0, b - a))
    rest = excess - from_a - from_b
    from_a += rest // 2
    from_b += rest - rest // 2
    front_a, front_b = int(rng.binomial(from_a, 0.5)), int(rng.binomial(from_b, 0.5))
    return front_a, from_a - front_a, front_b, from_b - front_b

"""Any number of labels for a text or a pair of texts (topics, toxicity, …)."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from research.errors import UserError, nearest
from research.metrics import multi_label
from research.objectives.objective import Example
from research.tasks.pooled import Pooled, Pooling, text_of, text_slot


@dataclasses.dataclass(frozen=True)
class MultiLabelConfig:
    """Any number of labels for a text or a pair of texts.

    Attributes:
      labels: in the order of the head's outputs.
      pooling: what the head sees of a slot, as in a sequence classification.
      dropout: of what the head sees.
      threshold: probability from which on a label is predicted.
    """

    labels: tuple[str, ...] | Literal["auto"]
    pooling: Pooling = "auto"
    dropout: float = 0.1
    threshold: float = 0.5


class MultiLabel(Pooled):
    """A binary cross-entropy for each label. An example has "labels", a list of names."""

    name = "multi_label"
    kind = "multi_label"
    forms = ((("text",), "its labels"), (("text_a", "text_b"), "the labels of the pair"))
    measures = ("loss", "label_accuracy")
    metric = "micro_f1"
    Options = MultiLabelConfig

    @classmethod
    def score_names(cls, options):
        return ("micro_f1", "macro_f1", "exact_match")

    def check(self):
        labels, threshold = self.options.labels, self.options.threshold
        if not labels or len(set(labels)) != len(labels):
            raise UserError(f"config.task.labels={list(labels)} needs different ones")
        if not 0.0 < threshold < 1.0:
            raise UserError(f"config.task.threshold={threshold} must be in (0, 1)")

    @property
    def _columns(self) -> tuple[str, ...]:
        return tuple(f"label_{i}" for i in range(self.classes))

    def extend_layout(self, layout):
        return dataclasses.replace(layout, labels=self._columns)

    def weight(self, batch):
        return jnp.sum(batch["slot_weights"]) * self.classes

    def loss(self, params, model, hidden, batch, row_keys):
        scores = self.scores(params, model, hidden, batch, row_keys)
        gold = jnp.stack([batch[name] for name in self._columns], -1).astype(jnp.float32)
        losses = jax.nn.softplus(scores) - gold * scores
        total = jnp.sum(losses.sum(-1) * batch["slot_weights"])
        right = ((scores > 0) == (gold > 0)).astype(jnp.float32).sum(-1)
        correct = jnp.sum(right * batch["slot_weights"])
        return total, {"loss": total, "correct": correct, "count": self.weight(batch)}

    def outputs(self, params, model, hidden, batch):
        return {"slot": {"probability": jax.nn.sigmoid(self.scores(params, model, hidden, batch))}}

    def slots(self, example, number, labelled):
        slot = text_slot(self.tokenizer, example, self.layout.length)
        labels = self.options.labels
        given = _known(example, labels) if labelled else set()
        named = {c: int(n in given) for c, n in zip(self._columns, labels, strict=True)}
        return [dataclasses.replace(slot, example=number, labels=named)]

    def predict(self, example, slots, outputs):
        probability = np.asarray(outputs[0]["probability"], float)
        pairs = zip(self.options.labels, probability, strict=True)
        named = {n: round(float(p), 6) for n, p in pairs}
        labels = [name for name, p in named.items() if p >= self.options.threshold]
        return {"labels": labels, "probabilities": named}

    def counts(self, example, prediction):
        return multi_label.count(example["labels"], prediction["labels"])

    def finish(self, counts):
        return multi_label.finish(counts, self.options.labels)

    def show(self, example, prediction):
        shares = prediction["probabilities"]
        named = ", ".join(f"{name} ({shares[name]:.0%})" for name in prediction["labels"])
        return f"{text_of(example)} → {named or 'no label'}"


def _known(example: Example, labels: Sequence[str]) -> set[str]:
    for name in example["labels"]:
        if name not in labels:
            raise UserError(
                f"example {example['id']!r}: label {name!r} is not one of config.task.labels"
                f"{nearest(name, labels)}"
            )
    return set(example["labels"])

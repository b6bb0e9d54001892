"""Any number of labels for a text or a pair of texts (topics, toxicity, …)."""

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.errors import UserError
from research.metrics import multi_label
from research.tasks.pooled import Pooled, Pooling, text_of
from research.values import Fraction, Range


@dataclasses.dataclass(frozen=True)
class MultiLabelConfig:
    """Any number of labels for a text or a pair of texts.

    Attributes:
      labels: in the order of the head's outputs.
      pooling: how a segment becomes the head's input, as in sequence classification.
      dropout: dropout of the head's input.
      threshold: the least probability at which a label is predicted.
    """

    labels: tuple[str, ...] | Literal["auto"]
    pooling: Pooling = "auto"
    dropout: Fraction = 0.1
    threshold: Annotated[float, Range(0, 1, "()")] = 0.5


class MultiLabel(Pooled):
    """Binary cross-entropy of each label. An example has "labels", a list of names."""

    name = "multi_label"
    kind = "multi_label"
    forms = ((("text",), "its labels"), (("text_a", "text_b"), "the labels of the pair"))
    measures = ("loss", "label_accuracy")
    scores = ("micro_f1", "macro_f1", "exact_match")
    metric = "micro_f1"
    Options = MultiLabelConfig

    def check(self):
        labels = self.options.labels
        if not labels or len(set(labels)) != len(labels):
            raise UserError(f"config.task.labels={list(labels)} needs one or more different labels")

    @property
    def arrays(self):
        return {"labels": tuple(f"label_{i}" for i in range(self.classes))}

    def weight(self, batch):
        return jnp.sum(batch["segment_weights"]) * self.classes

    def loss(self, params, model, hidden, batch, row_keys):
        scores = self.logits(params, model, hidden, batch, row_keys)
        gold = jnp.stack([batch[name] for name in self.layout.labels], -1).astype(jnp.float32)
        losses = optax.sigmoid_binary_cross_entropy(scores, gold)
        total = jnp.sum(losses.sum(-1) * batch["segment_weights"])
        right = ((scores > 0) == (gold > 0)).astype(jnp.float32).sum(-1)
        correct = jnp.sum(right * batch["segment_weights"])
        return total, {"loss": total, "correct": correct, "count": self.weight(batch)}

    def outputs(self, params, model, hidden, batch):
        return {
            "segment": {"probability": jax.nn.sigmoid(self.logits(params, model, hidden, batch))}
        }

    def gold(self, example, labelled):
        names = example["labels"] if labelled else ()
        right = {self.label_index(example, name) for name in names}
        return {"labels": {name: int(i in right) for i, name in enumerate(self.layout.labels)}}

    def predict(self, example, segments, outputs):
        probability = np.asarray(outputs[0]["probability"], float)
        pairs = zip(self.options.labels, probability, strict=True)
        named = {n: round(float(p), 6) for n, p in pairs}
        labels = [name for name, p in named.items() if p >= self.options.threshold]
        return {"labels": labels, "probabilities": named}

    def counts(self, example, prediction):
        return multi_label.count(example["labels"], prediction["labels"])

    def compute_metrics(self, counts):
        return multi_label.compute(counts, self.options.labels)

    def show(self, example, prediction):
        shares = prediction["probabilities"]
        named = ", ".join(f"{name} ({shares[name]:.0%})" for name in prediction["labels"])
        return f"{text_of(example)} → {named or 'no label'}"

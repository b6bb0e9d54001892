"""A number for a text or a pair of texts (similarity, stars, …)."""

import dataclasses
import math

import jax.numpy as jnp

from research.errors import UserError
from research.metrics import regression
from research.objectives.objective import Example
from research.tasks.pooled import Pooled, Pooling, text_of
from research.values import Fraction


@dataclasses.dataclass(frozen=True)
class RegressionConfig:
    """A number for a text or a pair of texts.

    Attributes:
      pooling: how a segment becomes the head's input, as in sequence classification.
      dropout: dropout of the head's input.
    """

    pooling: Pooling = "auto"
    dropout: Fraction = 0.1


class Regression(Pooled):
    """Squared error of a number. An example's label is a number, or a number as text. The head is
    sequence classification's, with one output."""

    name = "regression"
    measures = ("loss",)
    arrays = {"values": ("value",)}
    scores = ("pearson", "spearman", "correlation", "mean_squared_error")
    metric = "correlation"
    classes = 1
    Options = RegressionConfig

    def loss(self, params, model, hidden, batch, row_keys):
        values = self.logits(params, model, hidden, batch, row_keys)[..., 0]
        total = jnp.sum(jnp.square(values - batch["value"]) * batch["segment_weights"])
        return total, {"loss": total, "count": self.weight(batch)}

    def outputs(self, params, model, hidden, batch):
        return {"segment": {"value": self.logits(params, model, hidden, batch)[..., 0]}}

    def gold(self, example, labelled):
        return {"values": {"value": _value(example) if labelled else 0.0}}

    def predict(self, example, segments, outputs):
        return {"value": round(float(outputs[0]["value"]), 6)}

    def counts(self, example, prediction):
        return regression.count(_value(example), prediction["value"])

    def compute_metrics(self, counts):
        return regression.compute(counts)

    def show(self, example, prediction):
        return f"{text_of(example)} → {prediction['value']:.3g}"


def _value(example: Example) -> float:
    try:
        value = float(example["label"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"example {example['id']!r}: label {example['label']!r} is not a number")
    return value

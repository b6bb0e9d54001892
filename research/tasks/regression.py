"""A number for a text or a pair of texts (similarity, stars, …)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from research.data.batch import Layout, Slot
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.evaluation import regression
from research.models.config import ModelConfig
from research.objectives.protocol import Objective
from research.tasks import sequence_classification as sequences
from research.tasks.protocol import Example, Outputs, Prediction, Task

NAME = "regression"


@dataclasses.dataclass(frozen=True)
class RegressionConfig:
    """A number for a text or a pair of texts.

    Attributes:
      pooling: what the head sees of a slot, as in a sequence classification.
      dropout: of what the head sees.
    """

    pooling: sequences.Pooling = "auto"
    dropout: float = 0.1


def metrics(config: RegressionConfig) -> tuple[str, ...]:
    """The names of what `finish` yields."""
    return ("pearson", "spearman", "correlation", "mean_squared_error")


def make(
    config: RegressionConfig, model: ModelConfig, tokenizer: Tokenizer, length: int, slots: int
) -> Task:
    """The task on rows of `length` tokens with at most `slots` examples; squared error.

    An example's label is a number, or a text that is one. Raises UserError as a sequence
    classification, whose head this is with one output.
    """
    head = sequences.classifier(model, tokenizer, config.pooling, 1)

    def values(params, model, hidden, batch, row_keys=None):
        return sequences.scores_of(params, model, hidden, batch, head, config, row_keys)[..., 0]

    def weight(batch):
        return jnp.sum(batch["slot_weights"])

    def loss(params, model, hidden, batch, row_keys):
        errors = jnp.square(values(params, model, hidden, batch, row_keys) - batch["value"])
        total = jnp.sum(errors * batch["slot_weights"])
        return total, {"loss": total, "count": weight(batch)}

    def outputs(params, model, hidden, batch):
        return {"slot": {"value": values(params, model, hidden, batch)}}

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        slot = sequences.text_slot(tokenizer, example, length)
        value = _value(example) if labelled else 0.0
        return [dataclasses.replace(slot, example=number, values={"value": value})]

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        return {"value": round(float(outputs[0]["value"]), 6)}

    def counts(example: Example, prediction: Prediction) -> dict[str, float]:
        return regression.count(_value(example), prediction["value"])

    def show(example: Example, prediction: Prediction) -> str:
        return f"{sequences.text_of(example)} → {prediction['value']:.3g}"

    pattern = sequences.pattern_of(config.pooling)
    return Task(
        NAME,
        "classification",
        Layout(length, slots, values=("value",)),
        Objective(sequences.NAME, pattern, head, weight, loss, finish_loss, outputs),
        make_slots,
        predict,
        counts,
        regression.finish,
        "correlation",
        show,
    )


def finish_loss(counts: Mapping[str, float]) -> dict[str, float]:
    """Mean squared error of a split."""
    return {"loss": counts["loss"] / counts["count"]}


def _value(example: Example) -> float:
    try:
        value = float(example["label"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"example {example['id']!r}: label {example['label']!r} is not a number")
    return value

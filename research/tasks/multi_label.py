"""Any number of labels for a text or a pair of texts (topics, toxicity, …)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from research.data.batch import Layout, Slot
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest
from research.evaluation import multi_label
from research.models.config import ModelConfig
from research.objectives.protocol import Objective
from research.tasks import sequence_classification as sequences
from research.tasks.protocol import Example, Outputs, Prediction, Task

NAME = "multi_label"


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
    pooling: sequences.Pooling = "auto"
    dropout: float = 0.1
    threshold: float = 0.5


def metrics(config: MultiLabelConfig) -> tuple[str, ...]:
    """The names of what `finish` yields."""
    return ("micro_f1", "macro_f1", "exact_match")


def make(
    config: MultiLabelConfig, model: ModelConfig, tokenizer: Tokenizer, length: int, slots: int
) -> Task:
    """The task on rows of `length` tokens with at most `slots` examples; a binary cross-entropy
    for each label.

    An example has "labels", a list of names. Raises UserError as a sequence classification.
    """
    if not config.labels or len(set(config.labels)) != len(config.labels):
        raise UserError(f"config.task.labels={list(config.labels)} needs different ones")
    if not 0.0 < config.threshold < 1.0:
        raise UserError(f"config.task.threshold={config.threshold} must be in (0, 1)")
    head = sequences.classifier(model, tokenizer, config.pooling, len(config.labels))
    columns = tuple(f"label_{i}" for i in range(len(config.labels)))

    def logits(params, model, hidden, batch, row_keys=None):
        return sequences.scores_of(params, model, hidden, batch, head, config, row_keys)

    def weight(batch):
        return jnp.sum(batch["slot_weights"]) * len(columns)

    def loss(params, model, hidden, batch, row_keys):
        scores = logits(params, model, hidden, batch, row_keys)
        gold = jnp.stack([batch[name] for name in columns], -1).astype(jnp.float32)
        losses = jax.nn.softplus(scores) - gold * scores
        total = jnp.sum(losses.sum(-1) * batch["slot_weights"])
        right = ((scores > 0) == (gold > 0)).astype(jnp.float32).sum(-1)
        counts = {"correct": jnp.sum(right * batch["slot_weights"]), "count": weight(batch)}
        return total, {"loss": total} | counts

    def outputs(params, model, hidden, batch):
        return {"slot": {"probability": jax.nn.sigmoid(logits(params, model, hidden, batch))}}

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        slot = sequences.text_slot(tokenizer, example, length)
        given = _known(example, config.labels) if labelled else set()
        named = {c: int(n in given) for c, n in zip(columns, config.labels, strict=True)}
        return [dataclasses.replace(slot, example=number, labels=named)]

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        probability = np.asarray(outputs[0]["probability"], float)
        named = {n: round(float(p), 6) for n, p in zip(config.labels, probability, strict=True)}
        found = [name for name, p in named.items() if p >= config.threshold]
        return {"labels": found, "probabilities": named}

    def counts(example: Example, prediction: Prediction) -> dict[str, float]:
        return multi_label.count(example["labels"], prediction["labels"])

    def show(example: Example, prediction: Prediction) -> str:
        shares = prediction["probabilities"]
        named = ", ".join(f"{name} ({shares[name]:.0%})" for name in prediction["labels"])
        return f"{sequences.text_of(example)} → {named or 'no label'}"

    pattern = sequences.pattern_of(config.pooling)
    return Task(
        NAME,
        "multi_label",
        Layout(length, slots, labels=columns),
        Objective(sequences.NAME, pattern, head, weight, loss, finish_loss, outputs),
        make_slots,
        predict,
        counts,
        lambda counts: multi_label.finish(counts, config.labels),
        "micro_f1",
        show,
    )


def finish_loss(counts: Mapping[str, float]) -> dict[str, float]:
    """Mean loss and accuracy over all labels of all examples."""
    return {
        "loss": counts["loss"] / counts["count"],
        "label_accuracy": counts["correct"] / counts["count"],
    }


def _known(example: Example, labels: Sequence[str]) -> set[str]:
    for name in example["labels"]:
        if name not in labels:
            raise UserError(
                f"example {example['id']!r}: label {name!r} is not one of config.task.labels"
                f"{nearest(name, labels)}"
            )
    return set(example["labels"])

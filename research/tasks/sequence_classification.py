"""One label for a text or a pair of texts (sentiment, entailment, …)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.errors import UserError
from research.metrics import classification
from research.tasks.pooled import Pooled, Pooling, text_of
from research.values import Fraction, Positive

NAME = "sequence_classification"


@dataclasses.dataclass(frozen=True)
class SequenceClassificationConfig:
    """One label for a text or a pair of texts.

    Attributes:
      labels: in the order of the head's outputs.
      pooling: how a segment becomes the head's input: "pooler" is BERT's ([CLS] through the
        pooler), "first" the first token as it is, "auto" the pooler if there is one and else
        "first", "mean" the mean over the segment's tokens, "last" its last token (for a causal
        backbone: attention is causal and the head has no bias, as in GPT-2 and Llama).
      dropout: dropout of the head's input.
      class_weights: the weight of each label's examples in the loss; (): 1 for all.
      label_smoothing: share of the target that is spread evenly over all labels.
      metric: the metric in tables, which also chooses the best checkpoint; "f1" and "matthews" are
        for two labels, of which the last is positive.
    """

    labels: tuple[str, ...] | Literal["auto"]
    pooling: Pooling = "auto"
    dropout: Fraction = 0.1
    class_weights: tuple[Positive, ...] = ()
    label_smoothing: Fraction = 0.0
    metric: Literal["macro_recall", "macro_f1", "accuracy", "f1", "matthews"] = "macro_recall"


class SequenceClassification(Pooled):
    """Cross-entropy of the labels."""

    name = NAME
    measures = ("loss", "label_accuracy")
    arrays = {"labels": ("label",)}
    Options = SequenceClassificationConfig

    @property
    def metric(self):
        return self.options.metric

    @classmethod
    def score_names(cls, options):
        of_two = ("f1", "matthews") if len(options.labels) == 2 else ()
        return ("accuracy", "macro_f1", "macro_recall", *of_two)

    def check(self):
        labels, metric = self.options.labels, self.options.metric
        weights = self.options.class_weights
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise UserError(f"config.task.labels={list(labels)} needs two or more different labels")
        if weights and len(weights) != len(labels):
            raise UserError(
                f"config.task.class_weights={list(weights)} must be one number for each of "
                f"the {len(labels)} labels"
            )
        if metric in ("f1", "matthews") and len(labels) != 2:
            raise UserError(f"config.task.metric={metric!r} is for two labels, not {len(labels)}")

    @property
    def _class_weights(self):
        return jnp.asarray(self.options.class_weights or [1.0] * self.classes, jnp.float32)

    def weight(self, batch):
        return jnp.sum(self._class_weights[batch["label"]] * batch["segment_weights"])

    def loss(self, params, model, hidden, batch, row_keys):
        scores = self.logits(params, model, hidden, batch, row_keys)
        gold = jax.nn.one_hot(batch["label"], self.classes)
        target = self._class_weights * optax.smooth_labels(gold, self.options.label_smoothing)
        losses = -jnp.sum(target * jax.nn.log_softmax(scores), -1) * batch["segment_weights"]
        correct = (jnp.argmax(scores, -1) == batch["label"]).astype(jnp.float32)
        total = jnp.sum(losses)
        seen = jnp.sum(batch["segment_weights"])
        counts = {"correct": jnp.sum(correct * batch["segment_weights"]), "examples": seen}
        return total, {"loss": total, "count": self.weight(batch)} | counts

    def loss_metrics(self, counts):
        """Returns the mean loss (weighted by class, if classes have weights) and the accuracy."""
        return {
            "loss": counts["loss"] / counts["count"],
            "label_accuracy": counts["correct"] / counts["examples"],
        }

    def outputs(self, params, model, hidden, batch):
        return {
            "segment": {"probability": jax.nn.softmax(self.logits(params, model, hidden, batch))}
        }

    def gold(self, example, labelled):
        label = self.label_index(example, example["label"]) if labelled else 0
        return {"labels": {"label": label}}

    def predict(self, example, segments, outputs):
        probability, labels = outputs[0]["probability"], self.options.labels
        named = {n: round(float(p), 6) for n, p in zip(labels, probability, strict=True)}
        return {"label": labels[int(np.argmax(probability))], "probabilities": named}

    def counts(self, example, prediction):
        return classification.count(example["label"], prediction["label"])

    def compute_metrics(self, counts):
        scores = classification.compute(counts)
        if self.classes == 2:
            scores |= classification.binary(counts, self.options.labels)
        return scores

    def show(self, example, prediction):
        share = prediction["probabilities"][prediction["label"]]
        return f"{text_of(example)} → {prediction['label']} ({share:.0%})"

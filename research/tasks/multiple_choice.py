"""Choosing the text that fits another text (SWAG, commonsense questions, …).

Each choice is a segment, [CLS] text [SEP] choice [SEP], with one score. The choices of an example
share a row, and the softmax is over them (Zellers et al. 2018, arXiv:1808.05326).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from research.data.batch import framed
from research.errors import UserError, nearest
from research.metrics.counts import ratio
from research.models.attention import MASKED
from research.objectives.objective import Example, sums
from research.tasks.pooled import Pooled, Pooling
from research.values import Fraction

SPECIALS = 3


@dataclasses.dataclass(frozen=True)
class MultipleChoiceConfig:
    """The choice that fits a text.

    Attributes:
      choices: the maximum number of choices of an example; a row has room for all of them, so each
        gets config.data.length / choices tokens.
      pooling: how a segment becomes the head's input, as in sequence classification.
      dropout: dropout of the head's input.
    """

    choices: int
    pooling: Pooling = "auto"
    dropout: Fraction = 0.1


class MultipleChoice(Pooled):
    """Cross-entropy of the right choice among those of its example."""

    name = "multiple_choice"
    kind = "multiple_choice"
    forms = ((("text", "choices"), "the choice that fits the text"),)
    measures = ("loss", "label_accuracy")
    arrays = {"labels": ("is_right",), "together": True}
    scores = ("accuracy",)
    metric = "accuracy"
    classes = 1
    head_name = name
    Options = MultipleChoiceConfig

    def check(self):
        choices, length = self.options.choices, self.layout.length
        if choices < 2 or choices > self.layout.segments or length // choices < 2 * SPECIALS:
            raise UserError(
                f"config.task.choices={choices} must be from 2 to config.data.segments="
                f"{self.layout.segments}, and config.data.length={length} at least {2 * SPECIALS} "
                "tokens for each"
            )

    def _right(self, batch):
        return batch["is_right"] * batch["segment_weights"]

    def weight(self, batch):
        return jnp.sum(self._right(batch))

    def loss(self, params, model, hidden, batch, row_keys):
        scores = self.logits(params, model, hidden, batch, row_keys)[..., 0]
        example, right = batch["example"], self._right(batch)
        rivals = (example[:, :, None] == example[:, None, :]) & (example[:, None, :] >= 0)
        others = jnp.where(rivals, scores[:, None, :], MASKED)  # [R, S, S]
        nll = jax.nn.logsumexp(others, -1) - scores
        return sums(jnp.where(right > 0, nll, 0.0), scores >= jnp.max(others, -1), right)

    def outputs(self, params, model, hidden, batch):
        return {"segment": {"score": self.logits(params, model, hidden, batch)[..., 0]}}

    def segments(self, example, number, labelled):
        most, choices = self.options.choices, example["choices"]
        if not 2 <= len(choices) <= most:
            raise UserError(
                f"example {example['id']!r} has {len(choices)} choices; it needs 2 to "
                f"config.task.choices={most}"
            )
        gold = _gold(example) if labelled else -1
        text, room = self.tokenizer.encode(example["text"]).ids, self.layout.length // most
        segments = []
        for i, choice in enumerate(choices):
            segment = framed(self.tokenizer, [text, self.tokenizer.encode(choice).ids], room)
            labels = {"is_right": int(i == gold)}
            segments.append(dataclasses.replace(segment, example=number, labels=labels))
        return segments

    def predict(self, example, segments, outputs):
        values = np.array([float(o["score"]) for o in outputs])
        shares = [round(float(p), 6) for p in scipy.special.softmax(values)]
        best = int(np.argmax(values))
        return {"choice": best, "text": example["choices"][best], "probabilities": shares}

    def counts(self, example, prediction):
        return {"right": float(prediction["choice"] == _gold(example)), "examples": 1.0}

    def compute_metrics(self, counts):
        return {"accuracy": ratio(counts["right"], counts["examples"])}

    def show(self, example, prediction):
        share = prediction["probabilities"][prediction["choice"]]
        return f"{example['text']} → {prediction['text']} ({share:.0%})"


def _gold(example: Example) -> int:
    """Returns the index of the right choice; the label is its text or its index."""
    label, choices = example["label"], example["choices"]
    if label in choices:
        return choices.index(label)
    if label.isdecimal() and int(label) < len(choices):
        return int(label)
    raise UserError(
        f"example {example['id']!r}: label {label!r} is neither one of its choices nor the index "
        f"of one, from 0{nearest(label, choices, shown=6)}"
    )

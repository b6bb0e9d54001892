"""Which of several texts goes with a text (SWAG, commonsense questions, …).

Each choice is a slot of its own, [CLS] text [SEP] choice [SEP], with one score; the choices of an
example share a row, and the softmax goes over them (Zellers et al. 2018, arXiv:1808.05326).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.data.batch import Layout, Slot
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest
from research.evaluation.metrics import ratio
from research.models.config import ModelConfig
from research.objectives.protocol import Objective
from research.tasks import sequence_classification as sequences
from research.tasks.protocol import Example, Outputs, Prediction, Task

NAME = "multiple_choice"
SPECIALS = 3
FAR = -1e30  # the score of what is not a choice of an example


@dataclasses.dataclass(frozen=True)
class MultipleChoiceConfig:
    """The choice that fits a text.

    Attributes:
      choices: how many an example has at most; a row has room for all of them, so each gets
        config.data.length / choices tokens.
      pooling: what the head sees of a slot, as in a sequence classification.
      dropout: of what the head sees.
    """

    choices: int
    pooling: sequences.Pooling = "auto"
    dropout: float = 0.1


def metrics(config: MultipleChoiceConfig) -> tuple[str, ...]:
    """The names of what `finish` yields."""
    return ("accuracy",)


def make(
    config: MultipleChoiceConfig, model: ModelConfig, tokenizer: Tokenizer, length: int, slots: int
) -> Task:
    """The task on rows of `length` tokens with at most `slots` choices.

    Raises UserError where a row has no room for the choices of an example.
    """
    if config.choices < 2 or config.choices > slots or length // config.choices < 2 * SPECIALS:
        raise UserError(
            f"config.task.choices={config.choices} must be from 2 to config.data.slots={slots}, "
            f"and config.data.length={length} at least {2 * SPECIALS} tokens for each"
        )
    head = sequences.classifier(model, tokenizer, config.pooling, 1)
    room = length // config.choices

    def scores(params, model, hidden, batch, row_keys=None):
        found = sequences.scores_of(params, model, hidden, batch, head, config, row_keys, NAME)
        return found[..., 0]

    def right(batch):
        return batch["is_right"] * batch["slot_weights"]

    def weight(batch):
        return jnp.sum(right(batch))

    def loss(params, model, hidden, batch, row_keys):
        found = scores(params, model, hidden, batch, row_keys)
        example = batch["example"]
        rivals = (example[:, :, None] == example[:, None, :]) & (example[:, None, :] >= 0)
        others = jnp.where(rivals, found[:, None, :], FAR)  # [R, S, S]
        nll = jax.nn.logsumexp(others, -1) - found
        best = (found >= jnp.max(others, -1)).astype(jnp.float32)
        total = jnp.sum(jnp.where(right(batch) > 0, nll, 0.0) * right(batch))
        counts = {"correct": jnp.sum(best * right(batch)), "count": weight(batch)}
        return total, {"loss": total} | counts

    def outputs(params, model, hidden, batch):
        return {"slot": {"score": scores(params, model, hidden, batch)}}

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        _check(example, config.choices)
        gold = _right(example) if labelled else -1
        text = tokenizer.encode(example["text"]).ids
        found = []
        for i, choice in enumerate(example["choices"]):
            slot = sequences.segments(tokenizer, [text, tokenizer.encode(choice).ids], room)
            labels = {"is_right": int(i == gold)}
            found.append(dataclasses.replace(slot, example=number, labels=labels))
        return found

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        values = np.array([float(o["score"]) for o in outputs])
        shares = np.exp(values - values.max())
        shares = [round(float(p), 6) for p in shares / shares.sum()]
        best = int(np.argmax(values))
        return {"choice": best, "text": example["choices"][best], "probabilities": shares}

    def counts(example: Example, prediction: Prediction) -> dict[str, float]:
        return {"right": float(prediction["choice"] == _right(example)), "examples": 1.0}

    def show(example: Example, prediction: Prediction) -> str:
        share = prediction["probabilities"][prediction["choice"]]
        return f"{example['text']} → {prediction['text']} ({share:.0%})"

    return Task(
        NAME,
        "multiple_choice",
        Layout(length, slots, labels=("is_right",), together=True),
        Objective(
            NAME, sequences.pattern_of(config.pooling), head, weight, loss, finish_loss, outputs
        ),
        make_slots,
        predict,
        counts,
        lambda counts: {"accuracy": ratio(counts["right"], counts["examples"])},
        "accuracy",
        show,
    )


def finish_loss(counts: Mapping[str, float]) -> dict[str, float]:
    """Mean loss and accuracy of a split."""
    return {
        "loss": counts["loss"] / counts["count"],
        "label_accuracy": counts["correct"] / counts["count"],
    }


def _check(example: Example, most: int) -> None:
    if not 2 <= len(example["choices"]) <= most:
        raise UserError(
            f"example {example['id']!r} has {len(example['choices'])} choices; it needs 2 to "
            f"config.task.choices={most}"
        )


def _right(example: Example) -> int:
    """The number of the right choice, which the label is or names."""
    label, choices = example["label"], example["choices"]
    if label in choices:
        return choices.index(label)
    if label.isdecimal() and int(label) < len(choices):
        return int(label)
    raise UserError(
        f"example {example['id']!r}: label {label!r} is neither one of its choices nor the number "
        f"of one, counted from 0{nearest(label, choices, shown=6)}"
    )

"""One label for a text or a pair of texts (sentiment, entailment, …)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from research.data.batch import Layout, Slot
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest
from research.evaluation import classification
from research.models import attention, heads, transformer
from research.models.config import ModelConfig
from research.objectives.protocol import Objective
from research.tasks.protocol import Example, Outputs, Prediction, Task

NAME = "sequence_classification"


Pooling = Literal["auto", "pooler", "first", "mean", "last"]


@dataclasses.dataclass(frozen=True)
class SequenceClassificationConfig:
    """One label for a text or a pair of texts.

    Attributes:
      labels: in the order of the head's outputs.
      pooling: what the head sees of a slot: "pooler" is BERT's ([CLS] through the pooler), "first"
        that token as it is, "auto" the one that fits the backbone, "mean" the mean over the slot's
        tokens, "last" its last token (the choice for a causal backbone, which the attention then
        is too; the head has no bias then, as GPT-2's and Llama's).
      dropout: of what the head sees.
      class_weights: one for each label: what an example of it counts in the loss; (): 1 for all.
      label_smoothing: share of the target that goes to all labels alike.
      metric: what tables show and the best checkpoint is chosen by; "f1" and "matthews" are for
        two labels, the last one being the positive one.
    """

    labels: tuple[str, ...] | Literal["auto"]
    pooling: Pooling = "auto"
    dropout: float = 0.1
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    metric: Literal["macro_recall", "macro_f1", "accuracy", "f1", "matthews"] = "macro_recall"


def segments(tokenizer: Tokenizer, parts: Sequence[np.ndarray], length: int) -> Slot:
    """One text or two in the tokenizer's frame ([CLS] A [SEP] B [SEP]), cut to `length` tokens.

    parts: the ids of each text. The longest part is cut first, at its end.
    """
    frame = tokenizer.frame(len(parts))
    sizes = [len(p) for p in parts]
    while sum(sizes) > length - len(frame):
        sizes[int(np.argmax(sizes))] -= 1
    return Slot(*frame.around([part[:size] for part, size in zip(parts, sizes, strict=True)]))


def pooled(
    params: Any, model: ModelConfig, hidden: jax.Array, batch: Mapping, pooling: str
) -> jax.Array:
    """One vector for each slot, [R, S, D]."""
    pooling = chosen(pooling, model)
    if pooling == "pooler":
        return transformer.pool(params["backbone"], model, hidden, batch["first"])
    if pooling in ("first", "last"):
        return transformer.gather(hidden, batch[pooling])
    count = batch["first"].shape[1]
    member = jax.nn.one_hot(batch["slots"] - 1, count, dtype=hidden.dtype)  # [R, L, S]
    sums = jnp.einsum("rld,rls->rsd", hidden, member)
    return sums / jnp.maximum(member.sum(1)[..., None], 1)


def chosen(pooling: Pooling, model: ModelConfig) -> Pooling:
    """What "auto" stands for: the pooler where the backbone has one, or else the first token."""
    return ("pooler" if model.pooler else "first") if pooling == "auto" else pooling


def classifier(
    model: ModelConfig, tokenizer: Tokenizer, pooling: Pooling, classes: int
) -> heads.Classifier:
    """The head on one vector for each slot.

    Raises UserError for a pooler that is not there; with "auto" where the tokenizer has no [CLS]
    either, from which all of a text could be read.
    """
    headless = pooling == "auto" and tokenizer.cls is None
    if (pooling == "pooler" or headless) and not model.pooler:
        raise UserError(
            f"config.task.pooling={pooling!r} but the backbone has no pooler"
            f"{' and the tokenizer no [CLS]' if headless else ''}; valid: 'first', 'mean', "
            "'last', or a new one: --config.model.pooler=true"
        )
    return heads.Classifier(model, classes, bias=pooling != "last")


def scores_of(
    params: Any,
    model: ModelConfig,
    hidden: jax.Array,
    batch: Mapping,
    head: heads.Classifier,
    config: Any,
    row_keys: jax.Array | None,
    name: str = NAME,
) -> jax.Array:
    """The outputs [R, S, C] of the head `name`; `config` has `pooling`, and `dropout` before it."""
    x = pooled(params, model, hidden, batch, config.pooling)
    if row_keys is not None:
        keys = jax.vmap(lambda k: jax.random.fold_in(k, 1 << 20))(row_keys)
        x = attention.dropout_rows(x, config.dropout, keys)
    return head.apply({"params": params["heads"][name]}, x)


def pattern_of(pooling: Pooling) -> attention.Pattern:
    """The last token has seen the others only in a causal model."""
    return "causal" if pooling == "last" else "full"


def text_slot(tokenizer: Tokenizer, example: Example, length: int) -> Slot:
    """The slot of an example's text, or of its pair of texts."""
    names = ("text",) if "text" in example else ("text_a", "text_b")
    return segments(tokenizer, [tokenizer.encode(example[n]).ids for n in names], length)


def text_of(example: Example) -> str:
    """An example's text or texts in one line."""
    return example["text"] if "text" in example else f"{example['text_a']} / {example['text_b']}"


def metrics(config: SequenceClassificationConfig) -> tuple[str, ...]:
    """The names of what `finish` yields."""
    of_two = ("f1", "matthews") if len(config.labels) == 2 else ()
    return ("accuracy", "macro_f1", "macro_recall", *of_two)


def make(
    config: SequenceClassificationConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    length: int,
    slots: int,
) -> Task:
    """The task on rows of `length` tokens with at most `slots` examples.

    Raises UserError where the backbone has no pooler but it is asked for.
    """
    _check(config)
    head = classifier(model, tokenizer, config.pooling, len(config.labels))
    index = {label: i for i, label in enumerate(config.labels)}
    class_weights = jnp.asarray(config.class_weights or [1.0] * len(config.labels), jnp.float32)

    def logits(params, model, hidden, batch, row_keys=None):
        return scores_of(params, model, hidden, batch, head, config, row_keys)

    def weights(batch):
        return class_weights[batch["label"]] * batch["slot_weights"]

    def weight(batch):
        return jnp.sum(weights(batch))

    def loss(params, model, hidden, batch, row_keys):
        scores = logits(params, model, hidden, batch, row_keys)
        logp = jax.nn.log_softmax(scores)
        gold = jax.nn.one_hot(batch["label"], len(config.labels))
        share = config.label_smoothing
        target = (1 - share) * gold + share / len(config.labels)
        losses = -jnp.sum(class_weights * target * logp, -1) * batch["slot_weights"]
        correct = (jnp.argmax(scores, -1) == batch["label"]).astype(jnp.float32)
        total = jnp.sum(losses)
        seen = jnp.sum(batch["slot_weights"])
        counts = {"correct": jnp.sum(correct * batch["slot_weights"]), "examples": seen}
        return total, {"loss": total, "count": weight(batch)} | counts

    def outputs(params, model, hidden, batch):
        return {"slot": {"probability": jax.nn.softmax(logits(params, model, hidden, batch))}}

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        slot = text_slot(tokenizer, example, length)
        label = 0
        if labelled:
            if example["label"] not in index:
                raise UserError(
                    f"example {example['id']!r}: label {example['label']!r} is not one of "
                    f"config.task.labels{nearest(example['label'], config.labels)}"
                )
            label = index[example["label"]]
        return [dataclasses.replace(slot, example=number, labels={"label": label})]

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        probability = outputs[0]["probability"]
        best = int(np.argmax(probability))
        named = {n: round(float(p), 6) for n, p in zip(config.labels, probability, strict=True)}
        return {"label": config.labels[best], "probabilities": named}

    def counts(example: Example, prediction: Prediction) -> dict[str, float]:
        return classification.count(example["label"], prediction["label"])

    def show(example: Example, prediction: Prediction) -> str:
        share = prediction["probabilities"][prediction["label"]]
        return f"{text_of(example)} → {prediction['label']} ({share:.0%})"

    def finish(counts: Mapping[str, float]) -> dict[str, float]:
        found = classification.finish(counts)
        if len(config.labels) == 2:
            found |= classification.binary(counts, config.labels)
        return found

    pattern = pattern_of(config.pooling)
    objective = Objective(NAME, pattern, head, weight, loss, finish_loss, outputs)
    return Task(
        NAME,
        "classification",
        Layout(length, slots, labels=("label",)),
        objective,
        make_slots,
        predict,
        counts,
        finish,
        config.metric,
        show,
    )


def finish_loss(counts: Mapping[str, float]) -> dict[str, float]:
    """Mean loss (weighted by class where classes have weights) and accuracy of a split."""
    return {
        "loss": counts["loss"] / counts["count"],
        "label_accuracy": counts["correct"] / counts["examples"],
    }


def _check(config: SequenceClassificationConfig) -> None:
    labels, weights = config.labels, config.class_weights
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise UserError(f"config.task.labels={list(labels)} needs two or more different ones")
    if weights and (len(weights) != len(labels) or min(weights) <= 0):
        raise UserError(
            f"config.task.class_weights={list(weights)} must be one number above 0 for each of the "
            f"{len(labels)} labels"
        )
    if not 0.0 <= config.label_smoothing < 1.0:
        raise UserError(f"config.task.label_smoothing={config.label_smoothing} must be in [0, 1)")
    if config.metric in ("f1", "matthews") and len(labels) != 2:
        raise UserError(
            f"config.task.metric={config.metric!r} is for two labels, not {len(labels)}"
        )

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


@dataclasses.dataclass(frozen=True)
class SequenceClassificationConfig:
    """`labels` in the order of the head's outputs; `pooling` is what the head sees of a slot.

    "pooler" is BERT's ([CLS] through the pooler), "first" that token as it is, "mean" the mean over
    the slot's tokens, "last" its last token (the choice for a causal backbone, which the attention
    then is too; the head has no bias then, as GPT-2's and Llama's).
    """

    labels: tuple[str, ...]
    pooling: Literal["pooler", "first", "mean", "last"] = "pooler"
    dropout: float = 0.1


def segments(tokenizer: Tokenizer, parts: Sequence[np.ndarray], length: int) -> Slot:
    """[CLS] A [SEP] or [CLS] A [SEP] B [SEP] with token types 0 and 1, cut to `length` tokens.

    The longest part is cut first, at its end. A tokenizer without [CLS] (GPT's) gets its end of
    text in front and after each part instead.
    """
    begin = (
        tokenizer.cls if tokenizer.cls is not None else tokenizer.require("eos", "it begins text")
    )
    close = tokenizer.sep if tokenizer.sep is not None else tokenizer.require("eos", "it ends text")
    room = length - 1 - len(parts)
    sizes = [len(p) for p in parts]
    while sum(sizes) > room:
        sizes[int(np.argmax(sizes))] -= 1
    tokens, types = [np.array([begin])], [np.zeros(1, np.int32)]
    for kind, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        tokens += [part[:size], np.array([close])]
        types.append(np.full(size + 1, kind, np.int32))
    return Slot(np.concatenate(tokens).astype(np.int32), np.concatenate(types))


def pooled(
    params: Any, model: ModelConfig, hidden: jax.Array, batch: Mapping, pooling: str
) -> jax.Array:
    """One vector for each slot, [R, S, D]."""
    if pooling == "pooler":
        return transformer.pool(params["backbone"], model, hidden, batch["first"])
    if pooling in ("first", "last"):
        return transformer.gather(hidden, batch[pooling])
    count = batch["first"].shape[1]
    member = jax.nn.one_hot(batch["slots"] - 1, count, dtype=hidden.dtype)  # [R, L, S]
    sums = jnp.einsum("rld,rls->rsd", hidden, member)
    return sums / jnp.maximum(member.sum(1)[..., None], 1)


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
    if config.pooling == "pooler" and not model.pooler:
        raise UserError(
            "config.task.pooling='pooler' but the backbone has no pooler; valid: 'first', 'mean', "
            "'last'"
        )
    if len(config.labels) < 2 or len(set(config.labels)) != len(config.labels):
        raise UserError(
            f"config.task.labels={list(config.labels)} needs two or more different ones"
        )
    head = heads.Classifier(model, len(config.labels), bias=config.pooling != "last")
    index = {label: i for i, label in enumerate(config.labels)}

    def logits(params, model, hidden, batch, row_keys=None):
        x = pooled(params, model, hidden, batch, config.pooling)
        if row_keys is not None:
            keys = jax.vmap(lambda k: jax.random.fold_in(k, 1 << 20))(row_keys)
            x = attention.dropout_rows(x, config.dropout, keys)
        return head.apply({"params": params["heads"][NAME]}, x)

    def weight(batch):
        return jnp.sum(batch["slot_weights"])

    def loss(params, model, hidden, batch, row_keys):
        scores = logits(params, model, hidden, batch, row_keys)
        logp = jnp.take_along_axis(jax.nn.log_softmax(scores), batch["label"][..., None], -1)
        correct = (jnp.argmax(scores, -1) == batch["label"]).astype(jnp.float32)
        total = -jnp.sum(logp[..., 0] * batch["slot_weights"])
        count = {"correct": jnp.sum(correct * batch["slot_weights"]), "count": weight(batch)}
        return total, {"loss": total} | count

    def outputs(params, model, hidden, batch):
        return {"slot": {"probability": jax.nn.softmax(logits(params, model, hidden, batch))}}

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        names = ("text",) if "text" in example else ("text_a", "text_b")
        slot = segments(tokenizer, [tokenizer.encode(example[n]).ids for n in names], length)
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
        text = (
            example["text"] if "text" in example else f"{example['text_a']} / {example['text_b']}"
        )
        share = prediction["probabilities"][prediction["label"]]
        return f"{text} → {prediction['label']} ({share:.0%})"

    pattern = "causal" if config.pooling == "last" else "full"
    objective = Objective(NAME, pattern, head, weight, loss, finish_loss, outputs)
    return Task(
        NAME,
        "classification",
        Layout(length, slots, labels=("label",)),
        objective,
        make_slots,
        predict,
        counts,
        classification.finish,
        "macro_recall",
        show,
    )


def finish_loss(counts: Mapping[str, float]) -> dict[str, float]:
    """Mean loss and accuracy of a split."""
    n = counts["count"]
    return {"loss": counts["loss"] / n, "label_accuracy": counts["correct"] / n}

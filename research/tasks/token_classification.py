"""One tag for each word (named entities), after section 5.3 of Devlin et al. 2018.

A word's tag is learnt and read at its first word piece; the other pieces count nothing. Words are
tagged each for itself, so an entity is as probable as the product of its words' tags.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from research.data import words
from research.data.batch import Layout, Slot
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest
from research.evaluation import entities
from research.models import attention, heads
from research.models.config import ModelConfig
from research.objectives.protocol import Objective
from research.tasks.protocol import Example, Outputs, Prediction, Task
from research.tasks.sequence_classification import segments
from research.tasks.windows import most_context, windows

NAME = "token_classification"


@dataclasses.dataclass(frozen=True)
class TokenClassificationConfig:
    """A tag for each word.

    Attributes:
      labels: in the order of the head's outputs, all BIO or all BIOES (see `entities`): O, B-TYPE
        and I-TYPE, in BIOES also E-TYPE and S-TYPE.
      dropout: of what the head sees.
    """

    labels: tuple[str, ...] | Literal["auto"]
    dropout: float = 0.1


def words_of(example: Example, tokenizer: Tokenizer) -> list[str]:
    """An example's words: its tokens, or its raw text split."""
    text, places = text_of(example, tokenizer)
    return [text[start:end] for start, end in places]


def text_of(example: Example, tokenizer: Tokenizer) -> tuple[str, list[tuple[int, int]]]:
    """An example's raw text and the characters (start, end) of its words; tokens get blanks."""
    if "tokens" not in example:
        return example["text"], words.split(example["text"], tokenizer)
    ends = np.cumsum([len(word) + 1 for word in example["tokens"]]) - 1
    pairs = zip(example["tokens"], ends.tolist(), strict=True)
    return " ".join(example["tokens"]), [(end - len(word), end) for word, end in pairs]


def metrics(config: TokenClassificationConfig) -> tuple[str, ...]:
    """The names of what `finish` yields."""
    return ("precision", "recall", "f1")


def make(
    config: TokenClassificationConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    length: int,
    slots: int,
) -> Task:
    """The task on rows of `length` tokens with at most `slots` sentences.

    A sentence longer than a row is cut into windows that overlap by half; each word is learnt and
    read in the one window that shows most of what is around it.

    Raises UserError for labels that are neither BIO nor BIOES, none, or twice the same.
    """
    scheme = _scheme(config.labels)
    head = heads.Classifier(model, classes=len(config.labels))
    index = {label: i for i, label in enumerate(config.labels)}
    frame = tokenizer.frame(1)
    around = tuple(map(len, frame.ids))
    room = length - len(frame)

    def logits(params, hidden, row_keys=None):
        if row_keys is not None:
            keys = jax.vmap(lambda k: jax.random.fold_in(k, 1 << 20))(row_keys)
            hidden = attention.dropout_rows(hidden, config.dropout, keys)
        return head.apply({"params": params["heads"][NAME]}, hidden)

    def weight(batch):
        return jnp.sum(batch["target_weights"])

    def loss(params, model, hidden, batch, row_keys):
        scores = logits(params, hidden, row_keys)
        targets, weights = batch["targets"], batch["target_weights"]
        logp = jnp.take_along_axis(jax.nn.log_softmax(scores), targets[..., None], -1)[..., 0]
        correct = (jnp.argmax(scores, -1) == targets).astype(jnp.float32)
        total = -jnp.sum(logp * weights)
        return total, {"loss": total, "correct": jnp.sum(correct * weights), "count": weight(batch)}

    def outputs(params, model, hidden, batch):
        return {"token": {"probability": jax.nn.softmax(logits(params, hidden))}}

    def make_slots(example: Example, number: int, labelled: bool) -> list[Slot]:
        encoding = tokenizer.encode_words(words_of(example, tokenizer))
        first = np.diff(encoding.words, prepend=-1) > 0
        tags = np.zeros(len(encoding.ids), np.int32)
        if labelled:
            tags[first] = [_label(example, tag, index) for tag in example["tags"]]
        spans = windows(len(encoding.ids), room, room - room // 2)
        owner = most_context(len(encoding.ids), spans)
        found = []
        for w, (start, end) in enumerate(spans):
            slot = segments(tokenizer, [encoding.ids[start:end]], length)
            here = first[start:end] & (owner[start:end] == w)
            found.append(
                dataclasses.replace(
                    slot,
                    example=number,
                    weight=float(labelled),
                    targets=np.pad(tags[start:end], around),
                    target_weights=np.pad(here.astype(np.float32), around),
                )
            )
        return found

    def predict(example: Example, slots: Sequence[Slot], outputs: Sequence[Outputs]) -> Prediction:
        pairs = zip(slots, outputs, strict=True)
        shares = np.concatenate([o["probability"][s.target_weights > 0] for s, o in pairs])
        tags = [config.labels[int(i)] for i in np.argmax(shares, -1)]
        text, places = text_of(example, tokenizer)
        found = _entities(text, places, entities.spans(tags, scheme), shares.max(-1))
        return {"tokens": [text[a:b] for a, b in places], "tags": tags, "entities": found}

    def counts(example: Example, prediction: Prediction) -> dict[str, float]:
        return entities.count(example["tags"], prediction["tags"], scheme)

    def show(example: Example, prediction: Prediction) -> str:
        text = text_of(example, tokenizer)[0]
        found = prediction["entities"]
        return entities.marked(text, found) if found else f"{text} → no entity"

    return Task(
        NAME,
        "tokens",
        Layout(length, slots, targets=True),
        Objective(NAME, "full", head, weight, loss, finish_loss, outputs),
        make_slots,
        predict,
        counts,
        entities.finish,
        "f1",
        show,
    )


def finish_loss(counts: Mapping[str, float]) -> dict[str, float]:
    """Mean loss and share of right tags, over the words of a split."""
    n = counts["count"]
    return {"loss": counts["loss"] / n, "tag_accuracy": counts["correct"] / n}


def _scheme(labels: Sequence[str]) -> entities.Scheme:
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise UserError(f"config.task.labels={list(labels)} needs two or more different ones")
    try:
        return entities.scheme(labels)
    except ValueError as error:
        raise UserError(f"config.task.labels: {error}") from error


def _label(example: Example, tag: str, index: Mapping[str, int]) -> int:
    if tag not in index:
        raise UserError(
            f"example {example['id']!r}: tag {tag!r} is not one of "
            f"config.task.labels{nearest(tag, index)}"
        )
    return index[tag]


def _entities(
    text: str,
    places: Sequence[tuple[int, int]],
    spans: Sequence[entities.Span],
    shares: np.ndarray,
) -> list[dict[str, Any]]:
    """Each entity with its type, its characters [start, end), its text, probability and words.

    places: characters (start, end) of each word. shares: the probability of each word's tag; the
    product over an entity's words is its own.
    """
    found = []
    for kind, first, end in spans:
        start, stop = places[first][0], places[end - 1][1]
        found.append(
            {
                "type": kind,
                "text": text[start:stop],
                "start": start,
                "end": stop,
                "probability": round(float(np.prod(shares[first:end], dtype=np.float64)), 6),
                "words": [first, end],
            }
        )
    return found

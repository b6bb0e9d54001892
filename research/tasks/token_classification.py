"""One tag for each word (named entities), after section 5.3 of Devlin et al. 2018.

A word's tag is learnt and read at its first word piece; the other pieces do not count. Words are
tagged independently, so an entity's probability is the product of its words' tags' probabilities.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data import words
from research.data.batch import framed
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.metrics import entities
from research.models import dropout, heads
from research.objectives.objective import Example, sums
from research.tasks.task import Task
from research.tasks.windows import most_context, windows
from research.values import Fraction

NAME = "token_classification"


@dataclasses.dataclass(frozen=True)
class TokenClassificationConfig:
    """A tag for each word.

    Attributes:
      labels: in the order of the head's outputs, all BIO or all BIOES (see `entities`): O, B-TYPE
        and I-TYPE, in BIOES also E-TYPE and S-TYPE.
      dropout: dropout of the head's input.
    """

    labels: tuple[str, ...] | Literal["auto"]
    dropout: Fraction = 0.1


def words_of(example: Example, tokenizer: Tokenizer) -> list[str]:
    """Returns an example's words: its tokens, or its raw text split."""
    text, places = text_of(example, tokenizer)
    return [text[start:end] for start, end in places]


def text_of(example: Example, tokenizer: Tokenizer) -> tuple[str, list[tuple[int, int]]]:
    """Returns an example's text (or tokens joined by spaces) and the (start, end) of its words."""
    if "tokens" not in example:
        return example["text"], words.split(example["text"], tokenizer)
    ends = np.cumsum([len(word) + 1 for word in example["tokens"]]) - 1
    pairs = zip(example["tokens"], ends.tolist(), strict=True)
    return " ".join(example["tokens"]), [(end - len(word), end) for word, end in pairs]


class TokenClassification(Task):
    """Cross-entropy of the words' tags.

    A sentence longer than a row is cut into windows that overlap by half; each word is learnt and
    read in the window with most context around it.
    """

    name = NAME
    kind = "tokens"
    forms = ((("text",), "what is named in it"), (("tokens",), "the same, for words"))
    measures = ("loss", "tag_accuracy")
    arrays = {"targets": True}
    weights = "target_weights"
    scores = ("precision", "recall", "f1")
    metric = "f1"
    Options = TokenClassificationConfig

    def check(self):
        """Raises UserError for fewer than two labels, duplicates, or neither BIO nor BIOES."""
        _scheme(self.options.labels)

    @functools.cached_property
    def scheme(self) -> entities.Scheme:
        """The scheme of the labels, BIO or BIOES."""
        return _scheme(self.options.labels)

    def head(self, model):
        return heads.Classifier(model, classes=len(self.options.labels))

    def _logits(self, params, model, hidden, row_keys=None):
        if row_keys is not None:
            keys = dropout.keys(row_keys, dropout.HEAD)
            hidden = dropout.rows(hidden, self.options.dropout, keys)
        return self.head_of(params, model, hidden)

    def loss(self, params, model, hidden, batch, row_keys):
        scores = self._logits(params, model, hidden, row_keys)
        targets, weights = batch["targets"], batch["target_weights"]
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, targets)
        return sums(losses, jnp.argmax(scores, -1) == targets, weights)

    def outputs(self, params, model, hidden, batch):
        return {"token": {"probability": jax.nn.softmax(self._logits(params, model, hidden))}}

    def segments(self, example, number, labelled):
        encoding = self.tokenizer.encode_words(words_of(example, self.tokenizer))
        frame, length = self.tokenizer.frame(1), self.layout.length
        around, room = tuple(map(len, frame.ids)), length - len(frame)
        first = np.diff(encoding.words, prepend=-1) > 0
        tags = np.zeros(len(encoding.ids), np.int32)
        if labelled:
            tags[first] = [self.label_index(example, tag, "tag") for tag in example["tags"]]
        spans = windows(len(encoding.ids), room, room - room // 2)
        owner = most_context(len(encoding.ids), spans)
        segments = []
        for w, (start, end) in enumerate(spans):
            segment = framed(self.tokenizer, [encoding.ids[start:end]], length)
            here = first[start:end] & (owner[start:end] == w)
            segments.append(
                dataclasses.replace(
                    segment,
                    example=number,
                    weight=float(labelled),
                    targets=np.pad(tags[start:end], around),
                    target_weights=np.pad(here.astype(np.float32), around),
                )
            )
        return segments

    def predict(self, example, segments, outputs):
        pairs = zip(segments, outputs, strict=True)
        shares = np.concatenate([o["probability"][s.target_weights > 0] for s, o in pairs])
        tags = [self.options.labels[int(i)] for i in np.argmax(shares, -1)]
        text, places = text_of(example, self.tokenizer)
        named = _entities(text, places, entities.spans(tags, self.scheme), shares.max(-1))
        return {"tokens": [text[a:b] for a, b in places], "tags": tags, "entities": named}

    def counts(self, example, prediction):
        return entities.count(example["tags"], prediction["tags"], self.scheme)

    def compute_metrics(self, counts):
        return entities.compute(counts)

    def show(self, example, prediction):
        text = text_of(example, self.tokenizer)[0]
        named = prediction["entities"]
        return entities.marked(text, named) if named else f"{text} → no entity"


def _scheme(labels: Sequence[str]) -> entities.Scheme:
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise UserError(f"config.task.labels={list(labels)} needs two or more different labels")
    try:
        return entities.scheme(labels)
    except ValueError as error:
        raise UserError(f"config.task.labels: {error}") from error


def _entities(
    text: str,
    places: Sequence[tuple[int, int]],
    spans: Sequence[entities.Span],
    shares: np.ndarray,
) -> list[dict[str, Any]]:
    """Returns each entity's type, text, characters [start, end), probability and words.

    places: characters (start, end) of each word. shares: the probability of each word's tag; an
    entity's probability is their product.
    """
    listed = []
    for kind, first, end in spans:
        start, stop = places[first][0], places[end - 1][1]
        listed.append(
            {
                "type": kind,
                "text": text[start:stop],
                "start": start,
                "end": stop,
                "probability": round(float(np.prod(shares[first:end], dtype=np.float64)), 6),
                "words": [first, end],
            }
        )
    return listed

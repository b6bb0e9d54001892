"""What every objective answers: what lies in its rows, which head it has, its loss and metrics.

Axes: R rows, L positions of a row, S segments of a row, P predicted positions of a row, D width.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.data import plan
from research.data.batch import Layout, Segment, framed
from research.data.block import Block
from research.data.tokenizer import Tokenizer
from research.metrics.counts import mean
from research.models.attention import Pattern
from research.models.config import ModelConfig

Batch = Mapping[str, Array]
Sums = dict[str, Array]
Example = Mapping[str, Any]
Prediction = dict[str, Any]
Outputs = Mapping[str, np.ndarray]  # of one segment
Draw = Callable[[str], np.random.Generator]  # purpose -> its own random numbers for this segment


@dataclasses.dataclass(frozen=True)
class Text:
    """A block of a token store, as the objectives of a run read it.

    read: bool [documents], those that are read; byte_lengths: token id -> UTF-8 bytes of its text.
    """

    block: Block
    read: np.ndarray
    tokenizer: Tokenizer
    layout: Layout
    byte_lengths: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reader:
    """How a model is asked about examples, and how its outputs are read.

    segments: (example, index, labelled) -> its segments; labelled False: they count nothing.
    predict: (example, its segments, their outputs) -> the prediction, a dict of JSON values. The
        outputs of a segment are its rows of the "segment" arrays, under "token" the positions it
        lies on, under "predict" those that it asks for.
    show: (example, prediction) -> one readable line.
    """

    layout: Layout
    objective: "Loss"
    segments: Callable[[Example, int, bool], list[Segment]]
    predict: Callable[[Example, Sequence[Segment], Sequence[Outputs]], Prediction]
    show: Callable[[Example, Prediction], str]


class Loss:
    """One loss on one head, which a step computes and an evaluation measures. All methods are pure:
    what they need they get.

    Attributes:
      name: also the prefix of its counts and, unless `head_name` says another, its head.
      pattern: the attention that it needs.
      measures: the names of its metrics: of the mean loss, then of the share that is right if that
        is counted.
      rows: (first, end, cycle): the loss is of the rows of a batch with first <= row % cycle < end;
        in a mixture of objectives each has its own.
      arrays: the fields of `Layout` that say which arrays its segments bring.
      weights: the batch's array that weighs what is learnt.
    """

    name: ClassVar[str]
    pattern: ClassVar[Pattern] = "full"
    measures: ClassVar[tuple[str, ...]] = ()
    rows: tuple[int, int, int] = (0, 1, 1)
    arrays: Mapping[str, Any] = {}
    weights: ClassVar[str] = "segment_weights"

    @property
    def share(self) -> float:
        """Of the rows of a batch, and of its loss in the sum of all losses."""
        first, end, cycle = self.rows
        return (end - first) / cycle

    @property
    def head_name(self) -> str:
        """Of the head in the params; losses may share one."""
        return self.name

    def head(self, model: ModelConfig) -> nn.Module | None:
        """The module whose params are `params["heads"][head_name]`. Raises UserError where the
        model lacks what it reads."""
        return None

    def head_of(self, params: Any, model: ModelConfig, x: Float[Array, "R N D"]) -> Any:
        """What the head makes of N vectors of each row."""
        return self.head(model).apply({"params": params["heads"][self.head_name]}, x)

    def vocabulary_places(self, layout: Layout) -> int:
        """Positions of a row whose logits over the vocabulary are computed."""
        return 0

    def extend_layout(self, layout: Layout) -> Layout:
        """The layout with the arrays that its segments bring."""
        return dataclasses.replace(layout, **self.arrays)

    def weight(self, batch: Batch) -> Array:
        """The loss's total weight, a function of the batch alone."""
        return jnp.sum(batch[self.weights])

    def loss(
        self,
        params: Any,
        model: ModelConfig,
        hidden: Float[Array, "R L D"],
        batch: Batch,
        row_keys: Array | None,
    ) -> tuple[Array, Sums]:
        """(sum of the loss over its weighted items, counts). Counts are sums too, so that a split's
        metrics are exact. row_keys [R] turn a head's own dropout on."""
        raise NotImplementedError

    def metrics(self, counts: Mapping[str, float]) -> dict[str, float]:
        """The metrics of a split from its summed counts: those of "loss" and "correct", by the
        weight ("count"), under the names of `measures`."""
        sums = zip(self.measures, ("loss", "correct"), strict=False)
        return {name: mean(counts[key], counts["count"]) for name, key in sums}

    def outputs(
        self, params: Any, model: ModelConfig, hidden: Float[Array, "R L D"], batch: Batch
    ) -> dict[str, Sums]:
        """Arrays from which predictions are read, grouped by what they belong to: {"segment":
        {name: [R, S, ...]}, "token": {name: [R, L, ...]}, "predict": {name: [R, P, ...]}}."""
        raise NotImplementedError

    def describe_segment(self, batch: Mapping[str, np.ndarray], row: int, segment: int) -> str:
        """What `launch.py data` says of a segment beside its place; "": nothing."""
        return ""

    def token_marks(
        self, batch: Mapping[str, np.ndarray], row: int, tokenizer: Tokenizer
    ) -> dict[int, str]:
        """What `launch.py data` shows in place of the token at a position of a row."""
        return {}


class Objective(Loss):
    """A loss of a pre-training; a new objective is one subclass and one line in `OBJECTIVES`.

    A subclass has `Options`, a frozen dataclass of the keys under `config.objective.NAME`, and
    overrides what it does otherwise than a text in the tokenizer's frame ([CLS] … [SEP]) that
    nothing is predicted of.

    Attributes:
      meaning: what it learns, for the list of keys.
      plans: whether it says what lies in a row (`plan` and `segment`). Of the objectives that share
        rows one does; the others edit its segments.
      asks, gives: the fields of an example that a trained model can be asked about, and what it
        answers; none: it cannot be asked. placeholder: what such a field looks like.
      options: its keys.
    """

    meaning: ClassVar[str] = ""
    plans: ClassVar[bool] = False
    asks: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[str] = ""
    placeholder: ClassVar[str] = "…"
    Options: ClassVar[type]

    def __init__(self, options: Any = None, rows: tuple[int, int, int] = (0, 1, 1)):
        self.options = self.Options() if options is None else options
        self.rows = rows

    # -- what is in a row -------------------------------------------------------------------

    @classmethod
    def eval_options(cls, options: Any) -> Any:
        """The options with which it is measured, whatever it is trained with."""
        return options

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises UserError for a special token that is needed and not there."""
        if not tokenizer.own_frame:
            tokenizer.require("cls", "every segment begins with it")
            tokenizer.require("sep", "every segment ends with it")

    def check_split(self, counts: Mapping[str, int]) -> None:
        """Raises UserError for a split of the corpus, of which `counts` are the store's, that gives
        nothing to learn from."""

    def predicted(self, tokens: int) -> int:
        """Of a segment's tokens how many take a place among the row's P predictions."""
        return 0

    def specials(self, tokenizer: Tokenizer) -> tuple[int, int]:
        """Positions that a segment of one text, and one of two, needs beside them."""
        return len(tokenizer.frame(1)), len(tokenizer.frame(2))

    def plan(self, text: Text, rows: plan.Rows, rng: np.random.Generator) -> np.ndarray:
        """The segments of a block's rows, dtype `plan.SEGMENT`, ordered by row."""
        lengths = text.block.lengths * text.read
        return plan.plan_slices(lengths, rows, rng, self.specials(text.tokenizer)[0])

    def segment(self, text: Text, planned: np.void, draw: Draw) -> Segment:
        """A planned segment with its tokens: one slice of a document, or two, in the frame."""
        slices = [text.block.slice(*(int(planned[k]) for k in ("doc", "start", "end")))]
        if planned["doc_b"] >= 0:
            second = (int(planned[k]) for k in ("doc_b", "start_b", "end_b"))
            slices.append(text.block.slice(*second))
        frame = text.tokenizer.frame(len(slices))
        tokens, types = frame.around([tokens for tokens, _ in slices])
        labels = dict.fromkeys(text.layout.labels, int(planned["label"]))
        starts = frame.flags([words for _, words in slices])
        return Segment(tokens, types, labels=labels, word_starts=starts)

    def edit(self, segment: Segment, tokenizer: Tokenizer, draw: Draw) -> Segment:
        """The segment as this objective changes it, such as masked."""
        return segment

    # -- what a trained model is asked ------------------------------------------------------

    def reader(self, tokenizer: Tokenizer, layout: Layout, examples: Sequence[Example]) -> Reader:
        """How examples with the fields `asks` are laid out in rows and read."""
        layout = self.asked_layout(tokenizer, layout, examples)

        def segments(example: Example, number: int, labelled: bool) -> list[Segment]:
            segment = self.ask(tokenizer, layout, example)
            return [dataclasses.replace(segment, example=number, weight=0.0)]

        def predict(example: Example, segments: Sequence[Segment], outputs: Sequence[Outputs]):
            return self.read(tokenizer, outputs[0])

        return Reader(layout, self, segments, predict, self.show)

    def asked_layout(
        self, tokenizer: Tokenizer, layout: Layout, examples: Sequence[Example]
    ) -> Layout:
        """The layout of rows that these examples are asked in."""
        return layout

    def ask(self, tokenizer: Tokenizer, layout: Layout, example: Example) -> Segment:
        """An example's segment: one text or two in the tokenizer's frame, cut to a row at the end
        of the longer one."""
        texts = [tokenizer.encode(example[name]).ids for name in self.asks]
        return framed(tokenizer, texts, layout.length)

    def read(self, tokenizer: Tokenizer, outputs: Outputs) -> Prediction:
        """What the outputs of a segment say, a dict of JSON values."""
        raise NotImplementedError

    def show(self, example: Example, prediction: Prediction) -> str:
        """A prediction as one readable line."""
        texts = " / ".join(example[name] for name in self.asks)
        return f"{texts} → {json.dumps(prediction, ensure_ascii=False)}"

    def sample(self, words: Sequence[str]) -> tuple[Example, str]:
        """An example made of held-out words, and what was there: "" where nothing is hidden."""
        count = len(self.asks)
        cuts = [len(words) * part // count for part in range(count + 1)]
        texts = (" ".join(words[a:b]) for a, b in itertools.pairwise(cuts))
        return dict(zip(self.asks, texts, strict=True)), ""


def sums(losses: Array, right: Array, weights: Array) -> tuple[Array, Sums]:
    """A loss and its counts from the loss of each item, whether it is right, and its weight."""
    total, count = jnp.sum(losses * weights), jnp.sum(weights)
    correct = jnp.sum(right.astype(jnp.float32) * weights)
    return total, {"loss": total, "correct": correct, "count": count}


def planner(objectives: Sequence[Objective]) -> Objective:
    """The one that says what lies in the rows that these objectives share."""
    return next((o for o in objectives if o.plans), objectives[0])


def row_layout(objectives: Sequence[Objective], length: int, segments: int) -> Layout:
    """Capacities and arrays of the rows that these objectives learn from."""
    layout = Layout(length, segments)
    for objective in objectives:
        layout = objective.extend_layout(layout)
    return layout


def by_pattern(objectives: Sequence[Objective]) -> dict[Pattern, list[Objective]]:
    """The objectives of each kind of attention, which share rows."""
    groups: dict[Pattern, list[Objective]] = {}
    for objective in objectives:
        groups.setdefault(objective.pattern, []).append(objective)
    return groups


def continues_with(objectives: Sequence[Loss]) -> Pattern:
    """The attention with which a model with these objectives continues text: causal if it can."""
    patterns = {o.pattern for o in objectives}
    return "prefix" if "prefix" in patterns and "causal" not in patterns else "causal"


def heads_of(objectives: Sequence[Loss], model: ModelConfig) -> dict[str, nn.Module]:
    """The heads with parameters, by name."""
    heads = {o.head_name: o.head(model) for o in objectives}
    return {name: head for name, head in heads.items() if head is not None}

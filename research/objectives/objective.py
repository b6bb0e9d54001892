"""Base classes of losses: the rows, head, loss and metrics of each objective.

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
Draw = Callable[[str], np.random.Generator]  # purpose -> a generator for this segment


@dataclasses.dataclass(frozen=True)
class Text:
    """A block of a token store, as a run's objectives read it.

    read: bool [documents], which documents are read.
    byte_lengths: returns the UTF-8 bytes of each token id's text.
    """

    block: Block
    read: np.ndarray
    tokenizer: Tokenizer
    layout: Layout
    byte_lengths: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Turns examples into segments, and a model's outputs into predictions.

    segments: (example, index, labelled) -> its segments; with labelled False they have no weight.
    predict: (example, its segments, their outputs) -> the prediction, a dict of JSON values. The
        outputs of a segment are its entries of the "segment" arrays, the "token" arrays at its
        positions and the "predict" arrays at its predicted positions.
    show: (example, prediction) -> one readable line.
    """

    layout: Layout
    objective: "Loss"
    segments: Callable[[Example, int, bool], list[Segment]]
    predict: Callable[[Example, Sequence[Segment], Sequence[Outputs]], Prediction]
    show: Callable[[Example, Prediction], str]


class Loss:
    """One loss on one head, computed by a train step and measured by an evaluation. All methods are
    pure functions of their arguments.

    Attributes:
      name: also the prefix of its counts and the default of `head_name`.
      pattern: the attention that it needs.
      measures: the names of its metrics: the mean loss, then the accuracy if it is counted.
      rows: (first, end, cycle): the loss reads the rows of a batch with first <= row % cycle < end;
        in a mixture each kind of attention has its own.
      arrays: fields of `Layout` that add the arrays its segments need.
      weights: the batch's array of loss weights.
    """

    name: ClassVar[str]
    pattern: ClassVar[Pattern] = "full"
    measures: ClassVar[tuple[str, ...]] = ()
    rows: tuple[int, int, int] = (0, 1, 1)
    arrays: Mapping[str, Any] = {}
    weights: ClassVar[str] = "segment_weights"

    @property
    def share(self) -> float:
        """Its share of a batch's rows, and the weight of its loss in the sum of all losses."""
        first, end, cycle = self.rows
        return (end - first) / cycle

    @property
    def head_name(self) -> str:
        """The key of its head in the params; losses may share a head."""
        return self.name

    def head(self, model: ModelConfig) -> nn.Module | None:
        """Returns the module with the params `params["heads"][head_name]`. Raises UserError if the
        model lacks a part that the head reads."""
        return None

    def head_of(self, params: Any, model: ModelConfig, x: Float[Array, "R N D"]) -> Any:
        """Applies the head to N vectors of each row."""
        return self.head(model).apply({"params": params["heads"][self.head_name]}, x)

    def vocabulary_places(self, layout: Layout) -> int:
        """Returns how many positions of a row need logits over the vocabulary."""
        return 0

    def extend_layout(self, layout: Layout) -> Layout:
        """Returns the layout with the arrays that its segments need."""
        return dataclasses.replace(layout, **self.arrays)

    def weight(self, batch: Batch) -> Array:
        """Returns the loss's total weight, a function of the batch alone."""
        return jnp.sum(batch[self.weights])

    def loss(
        self,
        params: Any,
        model: ModelConfig,
        hidden: Float[Array, "R L D"],
        batch: Batch,
        row_keys: Array | None,
    ) -> tuple[Array, Sums]:
        """Returns (weighted sum of the loss, counts). Counts are sums too, so a split's metrics are
        exact. row_keys [R] turn on the head's dropout."""
        raise NotImplementedError

    def loss_metrics(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Returns a split's metrics from the summed counts of `loss`: "loss" and "correct" divided
        by the weight ("count"), under the names in `measures`."""
        sums = zip(self.measures, ("loss", "correct"), strict=False)
        return {name: mean(counts[key], counts["count"]) for name, key in sums}

    def outputs(
        self, params: Any, model: ModelConfig, hidden: Float[Array, "R L D"], batch: Batch
    ) -> dict[str, Sums]:
        """Returns the arrays that predictions are read from, grouped by axis: {"segment":
        {name: [R, S, ...]}, "token": {name: [R, L, ...]}, "predict": {name: [R, P, ...]}}."""
        raise NotImplementedError

    def describe_segment(self, batch: Mapping[str, np.ndarray], row: int, segment: int) -> str:
        """Returns what `launch.py data` prints of a segment beside its place; "": nothing."""
        return ""

    def token_marks(
        self, batch: Mapping[str, np.ndarray], row: int, tokenizer: Tokenizer
    ) -> dict[int, str]:
        """Maps positions of a row to what `launch.py data` shows instead of the token."""
        return {}


class Objective(Loss):
    """A pre-training loss. A new objective is one subclass and one line in `OBJECTIVES`.

    A subclass has `Options`, a frozen dataclass of the keys under `config.objective.NAME`. By
    default a segment is a text in the tokenizer's frame ([CLS] … [SEP]) without predictions; the
    subclass overrides the rest.

    Attributes:
      meaning: what it learns, shown in the list of keys.
      plans: whether it fills the rows (`plan` and `segment`). Among objectives that share rows one
        does; the others edit its segments.
      asks, gives: the fields of an example that a prediction needs, and what it returns; without
        fields there are no predictions. placeholder: an example of such a field.
      options: an instance of `Options`.
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

    # -- rows -------------------------------------------------------------------------------

    @classmethod
    def eval_options(cls, options: Any) -> Any:
        """Returns the options for evaluation, whatever the training's are."""
        return options

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises UserError if the tokenizer lacks a special token that it needs."""
        if not tokenizer.own_frame:
            tokenizer.require("cls", "every segment begins with it")
            tokenizer.require("sep", "every segment ends with it")

    def check_split(self, counts: Mapping[str, int]) -> None:
        """Raises UserError if a split with these `Store.counts` has nothing to learn from."""

    def predicted(self, tokens: int) -> int:
        """Returns how many of the row's P predictions a segment of `tokens` tokens takes."""
        return 0

    def specials(self, tokenizer: Tokenizer) -> tuple[int, int]:
        """Returns the special tokens of a segment of one text, and of one of two texts."""
        return len(tokenizer.frame(1)), len(tokenizer.frame(2))

    def plan(self, text: Text, rows: plan.Rows, rng: np.random.Generator) -> np.ndarray:
        """Plans a block's rows: segments of dtype `plan.SEGMENT`, ordered by row."""
        lengths = text.block.lengths * text.read
        return plan.plan_slices(lengths, rows, rng, self.specials(text.tokenizer)[0])

    def segment(self, text: Text, planned: np.void, draw: Draw) -> Segment:
        """Fills a planned segment with tokens: one or two slices of documents, in the frame."""
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
        """Returns the segment as the objective changes it, such as masked."""
        return segment

    # -- prediction -------------------------------------------------------------------------

    def reader(self, tokenizer: Tokenizer, layout: Layout, examples: Sequence[Example]) -> Reader:
        """Returns the reader for examples with the fields `asks`."""
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
        """Returns the layout of rows for predictions of these examples."""
        return layout

    def ask(self, tokenizer: Tokenizer, layout: Layout, example: Example) -> Segment:
        """Returns an example's segment: one or two texts in the tokenizer's frame, cut to a row's
        length at the end of the longer text."""
        texts = [tokenizer.encode(example[name]).ids for name in self.asks]
        return framed(tokenizer, texts, layout.length)

    def read(self, tokenizer: Tokenizer, outputs: Outputs) -> Prediction:
        """Returns the prediction from a segment's outputs, a dict of JSON values."""
        raise NotImplementedError

    def show(self, example: Example, prediction: Prediction) -> str:
        """Returns the prediction as one readable line."""
        texts = " / ".join(example[name] for name in self.asks)
        return f"{texts} → {json.dumps(prediction, ensure_ascii=False)}"

    def sample(self, words: Sequence[str]) -> tuple[Example, str]:
        """Returns an example made of held-out words, and the hidden word ("" if none is hidden)."""
        count = len(self.asks)
        cuts = [len(words) * part // count for part in range(count + 1)]
        texts = (" ".join(words[a:b]) for a, b in itertools.pairwise(cuts))
        return dict(zip(self.asks, texts, strict=True)), ""


def sums(losses: Array, right: Array, weights: Array) -> tuple[Array, Sums]:
    """Returns a loss and its counts from each item's loss, correctness and weight."""
    total, count = jnp.sum(losses * weights), jnp.sum(weights)
    correct = jnp.sum(right.astype(jnp.float32) * weights)
    return total, {"loss": total, "correct": correct, "count": count}


def planner(objectives: Sequence[Objective]) -> Objective:
    """Returns the objective that plans the rows these objectives share."""
    return next((o for o in objectives if o.plans), objectives[0])


def row_layout(objectives: Sequence[Objective], length: int, segments: int) -> Layout:
    """Returns the layout of the rows that these objectives share."""
    layout = Layout(length, segments)
    for objective in objectives:
        layout = objective.extend_layout(layout)
    return layout


def by_pattern(objectives: Sequence[Objective]) -> dict[Pattern, list[Objective]]:
    """Groups objectives by their kind of attention; those of a group share rows."""
    groups: dict[Pattern, list[Objective]] = {}
    for objective in objectives:
        groups.setdefault(objective.pattern, []).append(objective)
    return groups


def continues_with(objectives: Sequence[Loss]) -> Pattern:
    """Returns the attention for generation: prefix if trained without causal, else causal."""
    patterns = {o.pattern for o in objectives}
    return "prefix" if "prefix" in patterns and "causal" not in patterns else "causal"


def heads_of(objectives: Sequence[Loss], model: ModelConfig) -> dict[str, nn.Module]:
    """Returns the heads with parameters, by name."""
    heads = {o.head_name: o.head(model) for o in objectives}
    return {name: head for name, head in heads.items() if head is not None}

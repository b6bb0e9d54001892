"""Masked language modelling (Devlin et al. 2018, arXiv:1810.04805, section 3.1).

Whole-word masking follows BERT's later release. Span masking follows SpanBERT (Joshi et al. 2020,
arXiv:1907.10529): spans of 1 to 10 words, geometric with p = 0.2, 3.8 on average, each masked,
replaced or kept as a whole. Tokens are corrupted on the host.
"""

import dataclasses
import math
import re
from typing import Annotated, Literal, NamedTuple

import jax
import numpy as np

from research.data.batch import framed
from research.data.special_tokens import Templated
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.metrics import language
from research.models import heads, transformer
from research.objectives import choices, vocabulary
from research.objectives.objective import Example, Objective
from research.values import Range

EVAL_RATE = 0.15
MASK = "[MASK]"  # accepted in texts, whatever the tokenizer calls its mask token
SPAN_P, SPAN_MAX = 0.2, 10
# Cumulative probabilities of 1, 2, …, SPAN_MAX words, from a truncated geometric distribution.
SPAN_SHARES = np.cumsum((1 - SPAN_P) ** np.arange(SPAN_MAX))
SPAN_SHARES /= SPAN_SHARES[-1]


@dataclasses.dataclass(frozen=True)
class MaskedLMConfig:
    """How tokens are masked.

    Attributes:
      rate: share of a segment's tokens that are predicted.
      unit: whether tokens, whole words or spans are masked.
    """

    rate: Annotated[float, Range(0, 1, "()")] = 0.15
    unit: Literal["token", "word", "span"] = "token"


class MaskedLM(Objective):
    """Computes logits only at the P predicted positions of a row."""

    name = "masked_lm"
    meaning = "hidden tokens are predicted (BERT); full attention"
    measures = ("masked_loss", "masked_perplexity", "masked_accuracy")
    weights = "predict_weights"
    asks = ("text",)
    placeholder = f"… {MASK} …"
    gives = f"the five best fillings of each {MASK} in it"
    Options = MaskedLMConfig

    @classmethod
    def eval_options(cls, options):
        """Always masks 15 % of single tokens, so that runs with other rates stay comparable."""
        return MaskedLMConfig(EVAL_RATE, "token")

    def check_tokenizer(self, tokenizer):
        super().check_tokenizer(tokenizer)
        tokenizer.require("mask", "masked language modelling replaces tokens by it")

    def extend_layout(self, layout):
        return dataclasses.replace(layout, predictions=capacity(layout.length, self.options.rate))

    def predicted(self, tokens):
        return predicted_count(tokens, self.options.rate)

    def edit(self, segment, tokenizer, draw):
        tokens, positions, targets = corrupt(
            segment.tokens,
            tokenizer.is_special[segment.tokens],
            segment.word_starts,
            self.options.rate,
            self.options.unit,
            tokenizer.mask,
            tokenizer.ordinary,
            draw("mask"),
        )
        return dataclasses.replace(
            segment, tokens=tokens, predict_positions=positions, predict_targets=targets
        )

    def token_marks(self, batch, row, tokenizer):
        marks: dict[int, str] = {}
        names = ("predict_positions", "predict_targets", "predict_weights")
        for place, target, weight in zip(*(batch[name][row] for name in names), strict=True):
            if weight:
                now, then = (tokenizer.token(i) for i in (batch["tokens"][row, place], target))
                marks[int(place)] = then if now == then else f"{now} → {then}"
        return marks

    def head(self, model):
        return heads.MaskedLM(model)

    def vocabulary_places(self, layout):
        return layout.predictions

    def _features(self, params, model, hidden, batch):
        x = transformer.gather(hidden, batch["predict_positions"])
        x, bias = self.head_of(params, model, x)
        return x, heads.output_table(params, model, self.name), bias

    def loss(self, params, model, hidden, batch, row_keys):
        features = self._features(params, model, hidden, batch)
        targets, weights = batch["predict_targets"], batch["predict_weights"]
        total, correct = vocabulary.sums(*features, targets, weights, model.vocab_size)
        return total, {"loss": total, "correct": correct, "count": self.weight(batch)}

    def loss_metrics(self, counts):
        return language.of_predictions(counts, self.measures)

    def outputs(self, params, model, hidden, batch):
        features = self._features(params, model, hidden, batch)
        logits = heads.vocabulary_logits(*features, model.vocab_size)
        return {"predict": choices.top(jax.nn.softmax(logits))}

    def asked_layout(self, tokenizer, layout, examples):
        """Makes room for the masks of as many segments as fit in a row. A single text gets room for
        any number of masks, so that texts predicted one by one share a compiled program."""
        most = max(len(_masked(tokenizer, example)[1]) for example in examples)
        most = max(1, most) if len(examples) > 1 else layout.length
        return dataclasses.replace(layout, predictions=min(layout.length, layout.segments * most))

    def ask(self, tokenizer, layout, example):
        """Raises UserError for a text without a mask token or longer than a row."""
        text, masks = _masked(tokenizer, example)
        ids, around = tokenizer.encode(Templated.of(text, masks)).ids, len(tokenizer.frame(1))
        place = f"the text of example {example['id']!r}" if "id" in example else "the text"
        if len(ids) + around > layout.length:
            raise UserError(
                f"{place} has {len(ids)} tokens, but this checkpoint reads at most "
                f"{layout.length - around} at a time"
            )
        segment = framed(tokenizer, [ids], layout.length)
        places = np.flatnonzero(segment.tokens == tokenizer.mask)
        if not len(places):
            name = tokenizer.token(tokenizer.mask)
            raise UserError(f"{place} has no {name}; write {name} for the word to predict")
        targets = np.full(len(places), tokenizer.mask)
        return dataclasses.replace(segment, predict_positions=places, predict_targets=targets)

    def read(self, tokenizer, outputs):
        """Returns the most probable tokens for each mask token, best first:
        {"masks": [[{"token", "probability"}, …], …]}."""
        pairs = zip(outputs["token"], outputs["probability"], strict=True)
        return {"masks": [choices.listed(tokenizer, *pair) for pair in pairs]}

    def show(self, example, prediction):
        return f"{example['text']} → {'; '.join(map(choices.line, prediction['masks']))}"

    def sample(self, words):
        middle = len(words) // 2
        asked = [*words[:middle], MASK, *words[middle + 1 :]]
        return {"text": " ".join(asked)}, words[middle]


def _masked(tokenizer: Tokenizer, example: Example) -> tuple[str, list[tuple[int, int]]]:
    """Returns an example's text with MASK replaced by the tokenizer's mask token, and its spans.

    Raises UserError for a tokenizer without a mask token.
    """
    name = tokenizer.token(tokenizer.require("mask", "filling it"))
    text = example["text"].replace(MASK, name)
    return text, [match.span() for match in re.finditer(re.escape(name), text)]


def capacity(length: int, rate: float) -> int:
    """Returns P, the predicted positions of a row, with room for rounding in short segments."""
    return math.ceil(length * rate) + 4


class Corruption(NamedTuple):
    """Corrupted tokens and what to predict."""

    tokens: np.ndarray  # [n] with the predicted positions replaced
    positions: np.ndarray  # [p] ascending
    targets: np.ndarray  # [p] the tokens that were there


def predicted_count(n: int, rate: float) -> int:
    """Returns how many of a segment's `n` tokens (specials included) are predicted, at least 1."""
    return max(1, round(rate * n))


def _units(word_starts: np.ndarray, candidates: np.ndarray) -> list[np.ndarray]:
    """Groups candidate positions into whole words."""
    group = np.cumsum(word_starts)[candidates]
    cuts = np.flatnonzero(np.diff(group)) + 1
    return np.split(candidates, cuts)


def _ends(words: list[np.ndarray], candidates: np.ndarray) -> np.ndarray:
    """Returns for each word the index of the first word after the next special token: no span
    crosses it."""
    firsts = np.cumsum([0, *map(len, words[:-1])])  # each word's first candidate
    stretch = np.cumsum(np.diff(candidates, prepend=candidates[0]) > 1)[firsts]
    return np.searchsorted(stretch, stretch, side="right")


def choose(
    candidates: np.ndarray,
    count: int,
    unit: Literal["token", "word", "span"],
    word_starts: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses `count` of the candidate positions (or all if there are fewer), ascending. Returns
    them and for each the index of its draw: one draw per token, or one per span.

    Takes whole units until the count is reached; skips a word that would exceed it, and cuts such a
    span. Parts of words fill the rest, so that the number of predictions is exact.
    """
    count = min(count, len(candidates))
    if unit == "token" or not count:
        return np.sort(rng.permutation(candidates)[:count]), np.arange(count)
    words = _units(word_starts, candidates)
    ends = _ends(words, candidates) if unit == "span" else ()
    chosen: dict[int, int] = {}  # position -> the first word of its unit
    for w in rng.permutation(len(words)):
        if len(chosen) == count:
            break
        end = w + 1
        if unit == "span":
            end = min(end + int(np.searchsorted(SPAN_SHARES, rng.random())), ends[w])
        piece = [int(p) for word in words[w:end] for p in word if int(p) not in chosen]
        if unit == "span":
            piece = piece[: count - len(chosen)]
        if len(chosen) + len(piece) <= count:
            chosen |= dict.fromkeys(piece, int(w))
    if len(chosen) < count:
        left = np.array([p for p in candidates if int(p) not in chosen])
        chosen |= dict.fromkeys(map(int, rng.permutation(left)[: count - len(chosen)]), -1)
    positions = sorted(chosen)
    if unit == "word":
        return np.array(positions, np.int64), np.arange(count)
    spans = np.unique([chosen[p] for p in positions], return_inverse=True)[1]
    return np.array(positions, np.int64), spans


def corrupt(
    tokens: np.ndarray,
    special: np.ndarray,
    word_starts: np.ndarray,
    rate: float,
    unit: Literal["token", "word", "span"],
    mask_id: int,
    ordinary: np.ndarray,
    rng: np.random.Generator,
) -> Corruption:
    """Chooses positions and replaces 80 % of them by [MASK] and 10 % by random tokens; 10 % stay.
    The shares are of tokens or, with `unit` "span", of spans.

    Args:
        tokens: int [n], with special tokens.
        special: bool [n], true for tokens that are never predicted.
        word_starts: bool [n], true at the first token of a word.
        rate: share of the n tokens to predict.
        mask_id: the id of [MASK].
        ordinary: the ids of random replacements (no special tokens).
    """
    candidates = np.flatnonzero(~special)
    count = predicted_count(len(tokens), rate)
    positions, draws = choose(candidates, count, unit, word_starts, rng)
    targets = tokens[positions]
    draw = rng.random(len(positions))[draws]
    random_tokens = ordinary[rng.integers(len(ordinary), size=len(positions))]
    replaced = np.where(draw < 0.8, mask_id, np.where(draw < 0.9, random_tokens, targets))
    corrupted = tokens.copy()
    corrupted[positions] = replaced
    return Corruption(corrupted, positions, targets)

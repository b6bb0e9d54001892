"""BERT's corruption of a slot's tokens, drawn on the host.

Devlin et al. 2018 (arXiv:1810.04805), section 3.1; whole words as in BERT's later release; spans
as in SpanBERT (Joshi et al. 2020, arXiv:1907.10529): of 1 to 10 words, geometric with p = 0.2, 3.8
on average, each span masked, replaced or kept as a whole.
"""

import dataclasses
from typing import Literal

import numpy as np

SPAN_P, SPAN_MAX = 0.2, 10
# Of lengths up to 1, 2, …, SPAN_MAX words: shares of a geometric distribution that ends there.
SPAN_SHARES = np.cumsum((1 - SPAN_P) ** np.arange(SPAN_MAX))
SPAN_SHARES /= SPAN_SHARES[-1]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """What to predict and what to put in its place."""

    tokens: np.ndarray  # [n] with the predicted positions replaced
    positions: np.ndarray  # [p] ascending
    targets: np.ndarray  # [p] the tokens that were there


def predicted_count(n: int, rate: float) -> int:
    """Positions predicted in a slot of `n` tokens, specials counted: max(1, round(rate * n))."""
    return max(1, round(rate * n))


def _units(word_starts: np.ndarray, candidates: np.ndarray) -> list[np.ndarray]:
    """Candidate positions grouped into whole words."""
    group = np.cumsum(word_starts)[candidates]
    cuts = np.flatnonzero(np.diff(group)) + 1
    return np.split(candidates, cuts)


def _ends(words: list[np.ndarray], candidates: np.ndarray) -> np.ndarray:
    """Of each word the number of the first one behind it that does not follow without a gap, which
    a special token leaves."""
    firsts = np.cumsum([0, *map(len, words[:-1])])  # of each word, among the candidates
    stretch = np.cumsum(np.diff(candidates, prepend=candidates[0]) > 1)[firsts]
    return np.searchsorted(stretch, stretch, side="right")


def choose(
    candidates: np.ndarray,
    count: int,
    unit: Literal["token", "word", "span"],
    word_starts: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """`count` of the candidate positions (fewer if there are fewer), ascending, and of each the
    number of the draw by which it is replaced: one for each token, for spans one for each span.

    Whole units are taken until the count is reached; one that would exceed it is passed over, and
    the last places are filled with parts of words, so that the number predicted is always exact.
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
    """Chooses positions and replaces 80 % by [MASK], 10 % by a random token, 10 % by itself: of
    single tokens or, where `unit` is "span", of spans.

    Args:
        tokens: int [n], with its special tokens.
        special: bool [n], true where a token must never be predicted.
        word_starts: bool [n], true at the first token of a word.
        rate: share of the n tokens to predict.
        mask_id: the id of [MASK].
        ordinary: ids a random replacement is drawn from (no special ones).
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

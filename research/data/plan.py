"""Row plans of pre-training: which slices of which documents share a row.

A plan is made from lengths and sentence offsets alone, block by block, and never leaves its
block, so any number of machines makes the same plan. It changes with the generator it is given.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from research.errors import UserError

# One slot of a row. A pair has a second slice; a single slice has doc_b = -1. `label` is 1 where
# the second slice comes from another document (next sentence), or stood before the first (order).
SLOT = np.dtype(
    [
        ("row", np.int32),
        ("doc", np.int32),
        ("start", np.int32),
        ("end", np.int32),
        ("doc_b", np.int32),
        ("start_b", np.int32),
        ("end_b", np.int32),
        ("label", np.int32),
    ]
)
FORMAT = 1  # raise it when the same lengths and draws would give other rows
PAIR_SPECIALS = 3  # [CLS] A [SEP] B [SEP]


class _Rows:
    """Fills rows one after the other; a slot that finds no room closes the row."""

    def __init__(self, length: int, slots: int, predictions: int, predicted_of):
        self.length, self.slots, self.predictions = length, slots, predictions
        self.predicted_of = predicted_of
        self.row = self.used = self.count = self.predicted = 0
        self.made: list[tuple[int, ...]] = []

    def room(self, least: int) -> int:
        """Free positions of the open row, which is closed when they are fewer than `least`."""
        if self.count and (self.length - self.used < least or self.count == self.slots):
            self._close()
        return self.length - self.used

    def add(self, tokens: int, slot: tuple[int, ...]) -> None:
        predicted = self.predicted_of(tokens)
        if self.count and self.predicted + predicted > self.predictions:
            self._close()
        self.made.append((self.row, *slot))
        self.used += tokens
        self.count += 1
        self.predicted += predicted

    def _close(self) -> None:
        self.row += 1
        self.used = self.count = self.predicted = 0

    def array(self) -> np.ndarray:
        return np.array(self.made, SLOT)


def plan_slices(
    lengths: Sequence[int],
    length: int,
    slots: int,
    rng: np.random.Generator,
    specials: int,
    predictions: int = 0,
    predicted_of=lambda n: 0,
) -> np.ndarray:
    """Cuts documents, in random order, into slices that fill the rows.

    Args:
        lengths: tokens of each document of the block.
        length: L, positions of a row.
        slots: S, slots of a row at most.
        specials: positions that a slot needs beside its slice.
        predictions: P, predicted positions of a row at most.
        predicted_of: how many positions of a slot of n tokens are predicted.

    Returns: slots [N] of dtype SLOT; every token is in exactly one slice.
    """
    rows = _Rows(length, slots, predictions, predicted_of)
    least = specials + max(1, min(16, length // 8))
    for doc in rng.permutation(len(lengths)):
        start, size = 0, int(lengths[doc])
        while start < size:
            room = rows.room(min(least, specials + size - start))
            end = min(size, start + room - specials)
            rows.add(end - start + specials, (int(doc), start, end, -1, 0, 0, 0))
            start = end
    return rows.array()


def _truncate(a: int, b: int, room: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Tokens to cut from (front of A, back of A, front of B, back of B), the longer one first."""
    excess = a + b - room
    if excess <= 0:
        return 0, 0, 0, 0
    from_a = min(excess, max(0, a - b))
    from_b = min(excess, max(0, b - a))
    rest = excess - from_a - from_b
    from_a += rest // 2
    from_b += rest - rest // 2
    front_a, front_b = int(rng.binomial(from_a, 0.5)), int(rng.binomial(from_b, 0.5))
    return front_a, from_a - front_a, front_b, from_b - front_b


def check_pairs(documents: int) -> None:
    """Raises UserError for a block of fewer than two documents: whence would a random B come?"""
    if documents < 2:
        raise UserError(
            "next sentence prediction needs at least two documents in each block of a split; give "
            "config.data.corpus as several documents, hold out fewer of them "
            "(config.data.held_out_percent), or leave it out: --config.objective.next_sentence=None"
        )


def plan_pairs(
    sentences: Sequence[Sequence[int]],
    length: int,
    slots: int,
    rng: np.random.Generator,
    short: float = 0.1,
    predictions: int = 0,
    predicted_of=lambda n: 0,
    specials: int = PAIR_SPECIALS,
) -> np.ndarray:
    """Sentence pairs for next sentence prediction (Devlin et al. 2018, appendix A.2).

    A is one or more sentences; B is what follows, or, half the time, the beginning of a random
    sentence of another document of the block. A pair fills what the row has left, or, with
    probability `short`, a random part of it. A lonely last sentence can only have a random B;
    such forced draws are paid back, so that half of all pairs are true ones.

    Args:
        sentences: for each document its sentences' token offsets, the end last.
        specials: positions that a slot needs beside its two slices.

    Returns: slots [N] of dtype SLOT. Raises UserError for a block of a single document.
    """
    usable = [d for d, offsets in enumerate(sentences) if len(offsets) > 1]
    check_pairs(len(usable))
    rows = _Rows(length, slots, predictions, predicted_of)
    least = specials + max(2, min(16, length // 8))
    owed = 0
    for doc in rng.permutation(usable):
        doc = int(doc)
        offsets = sentences[doc]
        last = len(offsets) - 1
        i = 0
        while i < last:
            room = rows.room(least) - specials
            target = room if rng.random() >= short else int(rng.integers(2, room + 1))
            j = min(last, max(i + 2, bisect_left(offsets, offsets[i] + target)))
            random_next = bool(rng.random() < 0.5)
            if j - i < 2 and not random_next:
                random_next, owed = True, owed + 1
            elif random_next and owed and j - i >= 2:
                random_next, owed = False, owed - 1
            middle = int(rng.integers(i + 1, j)) if j - i >= 2 else j
            a = (offsets[i], offsets[middle])
            if random_next:
                other = usable[int(rng.integers(len(usable) - 1))]
                other = usable[-1] if other == doc else other
                theirs = sentences[other]
                at = int(rng.integers(len(theirs) - 1))
                wanted = theirs[at] + max(1, target - (a[1] - a[0]))
                end = min(len(theirs) - 1, max(at + 1, bisect_left(theirs, wanted)))
                b = (theirs[at], theirs[end])
                i = middle
            else:
                other, b, i = doc, (offsets[middle], offsets[j]), j
            cut = _truncate(a[1] - a[0], b[1] - b[0], target, rng)
            a, b = (a[0] + cut[0], a[1] - cut[1]), (b[0] + cut[2], b[1] - cut[3])
            tokens = a[1] - a[0] + b[1] - b[0] + specials
            rows.add(tokens, (doc, *a, other, *b, int(random_next)))
    return rows.array()


def plan_ordered_pairs(
    sentences: Sequence[Sequence[int]],
    length: int,
    slots: int,
    rng: np.random.Generator,
    short: float = 0.1,
    predictions: int = 0,
    predicted_of=lambda n: 0,
    specials: int = PAIR_SPECIALS,
) -> np.ndarray:
    """Pairs of neighbours for sentence order prediction (Lan et al. 2019, section 3.1).

    A and B are one or more sentences each, the second right behind the first, and change places
    half the time. A pair fills what the row has left, or, with probability `short`, a random part
    of it; a last sentence that would be left alone goes into the pair before it. The one sentence
    of a document is cut in two, and where it is a single token there is no order: it is left out.

    Args and returns: as in `plan_pairs`.
    """
    rows = _Rows(length, slots, predictions, predicted_of)
    least = specials + max(2, min(16, length // 8))
    for doc in rng.permutation(len(sentences)):
        doc = int(doc)
        offsets = sentences[doc]
        if offsets[-1] < 2:
            continue
        if len(offsets) == 2:
            offsets = [0, int(rng.integers(1, offsets[-1])), offsets[-1]]
        last = len(offsets) - 1
        i = 0
        while i < last:
            room = rows.room(least) - specials
            target = room if rng.random() >= short else int(rng.integers(2, room + 1))
            j = min(last, max(i + 2, bisect_left(offsets, offsets[i] + target)))
            j = last if last - j == 1 else j
            middle = int(rng.integers(i + 1, j))
            a, b = (offsets[i], offsets[middle]), (offsets[middle], offsets[j])
            i = j
            cut = _truncate(a[1] - a[0], b[1] - b[0], target, rng)
            a, b = (a[0] + cut[0], a[1] - cut[1]), (b[0] + cut[2], b[1] - cut[3])
            swapped = bool(rng.random() < 0.5)
            a, b = (b, a) if swapped else (a, b)
            tokens = a[1] - a[0] + b[1] - b[0] + specials
            rows.add(tokens, (doc, *a, doc, *b, int(swapped)))
    return rows.array()

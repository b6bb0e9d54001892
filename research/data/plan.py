"""Row plans of pre-training: which slices of which documents share a row.

A plan is made from lengths and sentence offsets alone, block by block, and never leaves its
block, so any number of machines makes the same plan. It changes with the generator it is given.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from research.errors import UserError

# One slot of a row. A pair has a second slice; a single slice has doc_b = -1. `label` is 1 where
# the second slice comes from another document (next sentence), or stood before the first (order),
# and NO_PAIR for a slice among pairs.
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
FORMAT = 2  # raise it when the same lengths and draws would give other rows
SPECIALS = (2, 3)  # [CLS] A [SEP], [CLS] A [SEP] B [SEP]
NO_PAIR = -1  # the label of a slice among pairs
DRAWS = 4  # of a random sentence, at most


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
    for doc in rng.permutation(len(lengths)):
        _slices(rows, int(doc), 0, int(lengths[doc]), specials)
    return rows.array()


def _slices(rows: _Rows, doc: int, start: int, end: int, specials: int, label: int = 0) -> None:
    """Puts the tokens from `start` to `end` of a document into slots of one slice."""
    least = specials + max(1, min(16, rows.length // 8))
    while start < end:
        room = rows.room(min(least, specials + end - start))
        stop = min(end, start + room - specials)
        rows.add(stop - start + specials, (doc, start, stop, -1, 0, 0, label))
        start = stop


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


class _Others:
    """What a random B may come from: the documents of one source that make pairs."""

    def __init__(self, sentences: Sequence[Sequence[int]], documents: Sequence[int]):
        self._sentences, self._documents = sentences, list(documents)
        self._ends = np.cumsum([sentences[d][-1] for d in documents])
        self._place = {d: n for n, d in enumerate(documents)}

    def draw(
        self, doc: int, wanted: int, full: bool, rng: np.random.Generator
    ) -> tuple[int, int, int]:
        """(document, first token, end) of whole sentences of another document.

        The document is drawn by its tokens, as true pairs are by theirs; the beginning is any of
        its sentences but the first, which follows nothing. Where the pair fills its room (`full`)
        it is the first of DRAWS that has `wanted` tokens or more, as a document may end too soon;
        else the one of DRAWS that comes nearest to them.
        """
        own = self._place[doc]
        end = int(self._ends[own])
        size = self._sentences[doc][-1]
        drawn = []
        for _ in range(DRAWS):
            token = int(rng.integers(int(self._ends[-1]) - size))
            token += size * (token >= end - size)
            other = self._documents[int(np.searchsorted(self._ends, token, side="right"))]
            offsets = self._sentences[other]
            at = int(rng.integers(1, len(offsets) - 1))
            last = min(len(offsets) - 1, bisect_left(offsets, offsets[at] + wanted, at + 1))
            if not full and last > at + 1:
                over = offsets[last] - offsets[at] - wanted
                last -= over > wanted - (offsets[last - 1] - offsets[at])
            drawn.append((other, offsets[at], offsets[last]))
            if full and drawn[-1][2] - drawn[-1][1] >= wanted:
                return drawn[-1]
        return min(drawn, key=lambda b: abs(b[2] - b[1] - wanted))


def paired(sentences: Sequence[int], sources: Sequence[int]) -> np.ndarray:
    """Which documents of a block make pairs: those of two sentences or more, of whose source there
    is another one in the block.

    Args:
        sentences: how many each document has; sources: the number of each one's source.

    Returns: bool [documents].
    """
    several = np.asarray(sentences) > 1
    _, place, counts = np.unique(
        np.asarray(sources)[several], return_inverse=True, return_counts=True
    )
    found = np.zeros(len(several), bool)
    found[several] = counts[place] > 1
    return found


def check_pairs(documents: int) -> None:
    """Raises UserError for a split of which no document makes pairs (see `paired`)."""
    if not documents:
        raise UserError(
            "next sentence prediction needs a source with two documents of two sentences or more "
            "in one block of a split: a random next sentence is one of another document of the "
            "same source. Give config.data.corpus as several documents, hold out more of "
            "them (config.data.held_out_percent), or leave it out: "
            "--config.objective.next_sentence=None"
        )


def plan_pairs(
    sentences: Sequence[Sequence[int]],
    sources: Sequence[int],
    length: int,
    slots: int,
    rng: np.random.Generator,
    short: float = 0.1,
    predictions: int = 0,
    predicted_of=lambda n: 0,
    specials: tuple[int, int] = SPECIALS,
) -> np.ndarray:
    """Sentence pairs for next sentence prediction (Devlin et al. 2018, appendix A.2).

    A is one or more sentences; B is what follows, or, in half of the pairs, about as much of
    another document. A pair fills what the row has left, or, with probability `short`, a random
    part of it.

    Nothing but reading tells the two kinds apart: a random B comes from another document of the
    same source in the block, and is as long as the true one would be (see `_Others.draw`); of two
    pairs of a source, one after the other, one is random.
    What cannot be told from its kind makes no pair: documents of one sentence, those that are
    alone of their source, and a last sentence that is left over are slices, as in `plan_slices`.

    Args:
        sentences: for each document its sentences' token offsets, the end last.
        sources: for each document the number of its source.
        specials: positions that a slot of one text needs beside it, and a slot of two.

    Returns: slots [N] of dtype SLOT; the label of a slice is NO_PAIR.
    """
    rows = _Rows(length, slots, predictions, predicted_of)
    single, double = specials
    least = double + max(2, min(16, length // 8))
    pairs = paired([len(offsets) - 1 for offsets in sentences], sources)
    others = {
        source: _Others(sentences, [d for d in np.flatnonzero(pairs) if sources[d] == source])
        for source in set(np.asarray(sources)[pairs].tolist())
    }
    owed: dict[int, bool] = {}  # source -> what the second of two pairs has to be
    for doc in rng.permutation(len(sentences)):
        doc, source, offsets = int(doc), int(sources[doc]), sentences[doc]
        last = len(offsets) - 1
        i = 0
        while i < last:
            if last - i < 2 or not pairs[doc]:
                _slices(rows, doc, offsets[i], offsets[-1], single, NO_PAIR)
                break
            room = rows.room(least) - double
            target = room if rng.random() >= short else int(rng.integers(2, room + 1))
            j = min(last, max(i + 2, bisect_left(offsets, offsets[i] + target)))
            middle = int(rng.integers(i + 1, j))
            random_next = owed.pop(source, None)
            if random_next is None:
                random_next = bool(rng.random() < 0.5)
                owed[source] = not random_next
            a, b, other = (offsets[i], offsets[middle]), (offsets[middle], offsets[j]), doc
            start, i = i, j
            if random_next:
                full = b[1] - offsets[start] >= target
                wanted = target - (a[1] - a[0]) if full else b[1] - b[0]
                other, *b = others[source].draw(doc, wanted, full, rng)
                i = middle
            cut = _truncate(a[1] - a[0], b[1] - b[0], target, rng)
            a, b = (a[0] + cut[0], a[1] - cut[1]), (b[0] + cut[2], b[1] - cut[3])
            tokens = a[1] - a[0] + b[1] - b[0] + double
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
    specials: int = SPECIALS[1],
) -> np.ndarray:
    """Pairs of neighbours for sentence order prediction (Lan et al. 2019, section 3.1).

    A and B are one or more sentences each, the second right behind the first, and change places
    half the time. A pair fills what the row has left, or, with probability `short`, a random part
    of it; a last sentence that would be left alone goes into the pair before it. The one sentence
    of a document is cut in two, and where it is a single token there is no order: it is left out.

    Args and returns: as in `plan_pairs`; `specials` of a slot of two texts.
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

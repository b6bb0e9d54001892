"""Row plans of pre-training: which slices of which documents share a row.

A plan depends only on the lengths and sentence offsets of one block and on its random generator,
so any number of machines makes the same plan.
"""

from collections.abc import Callable, Sequence

import numpy as np

# One segment of a row. A pair has a second slice; a single slice has doc_b = -1. `label` is 1 if
# the second slice comes from another document (next sentence) or from before the first (order),
# and NO_PAIR for a slice among pairs.
FIELDS = ("row", "doc", "start", "end", "doc_b", "start_b", "end_b", "label")
SEGMENT = np.dtype([(name, np.int32) for name in FIELDS])
FORMAT = 2  # increase it when the same lengths and draws give other rows
NO_PAIR = -1  # the label of a slice among pairs


class Rows:
    """Fills rows one by one; a segment that does not fit closes the row.

    Args:
        length: L, positions of a row.
        segments: S, segments of a row at most.
        predictions: P, predicted positions of a row at most.
        predicted_of: n -> the number of predicted positions in a segment of n tokens.
    """

    def __init__(
        self,
        length: int,
        segments: int,
        predictions: int = 0,
        predicted_of: Callable[[int], int] = lambda n: 0,
    ):
        self.length, self.segments, self.predictions = length, segments, predictions
        self.predicted_of = predicted_of
        self.row = self.used = self.count = self.predicted = 0
        self.planned: list[tuple[int, ...]] = []

    def room(self, least: int) -> int:
        """Returns the open row's free positions; closes it first if they are below `least`."""
        if self.count and (self.length - self.used < least or self.count == self.segments):
            self._close()
        return self.length - self.used

    def add(self, tokens: int, segment: tuple[int, ...]) -> None:
        """Adds a segment of `tokens` tokens; `segment`: the fields of `SEGMENT` after "row"."""
        predicted = self.predicted_of(tokens)
        if self.count and self.predicted + predicted > self.predictions:
            self._close()
        self.planned.append((self.row, *segment))
        self.used += tokens
        self.count += 1
        self.predicted += predicted

    def _close(self) -> None:
        self.row += 1
        self.used = self.count = self.predicted = 0

    def array(self) -> np.ndarray:
        """Returns all segments, dtype SEGMENT."""
        return np.array(self.planned, SEGMENT)


def plan_slices(
    lengths: Sequence[int], rows: Rows, rng: np.random.Generator, specials: int
) -> np.ndarray:
    """Cuts documents, in random order, into slices that fill the rows.

    Args:
        lengths: tokens of each document of the block.
        specials: special tokens of a segment.

    Returns: segments [N] of dtype SEGMENT; every token is in exactly one slice.
    """
    for doc in rng.permutation(len(lengths)):
        slices(rows, int(doc), 0, int(lengths[doc]), specials)
    return rows.array()


def slices(rows: Rows, doc: int, start: int, end: int, specials: int, label: int = 0) -> None:
    """Puts the tokens from `start` to `end` of a document into segments of one slice."""
    least = specials + max(1, min(16, rows.length // 8))
    while start < end:
        room = rows.room(min(least, specials + end - start))
        stop = min(end, start + room - specials)
        rows.add(stop - start + specials, (doc, start, stop, -1, 0, 0, label))
        start = stop


def paired(sentences: Sequence[int], sources: Sequence[int]) -> np.ndarray:
    """Finds a block's documents that make pairs: they have two or more sentences, and the block has
    another such document of the same source.

    Args:
        sentences: each document's number of sentences; sources: the number of its source.

    Returns: bool [documents].
    """
    several = np.asarray(sentences) > 1
    _, place, counts = np.unique(
        np.asarray(sources)[several], return_inverse=True, return_counts=True
    )
    makes_pairs = np.zeros(len(several), bool)
    makes_pairs[several] = counts[place] > 1
    return makes_pairs

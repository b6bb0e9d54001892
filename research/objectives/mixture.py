"""Batches that mix several sources by weight, or several kinds of attention by row."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.data.batch import Layout, Segment
from research.data.loader import Batches
from research.draws import generator
from research.errors import UserError
from research.models.attention import Pattern
from research.objectives.batches import PretrainingBatches

CYCLE = 10_000  # rows in which each source has its exact share


class Mixture(Batches):
    """Rows from several parts. A part has batches of one row, so its step is a row.

    Each part is read in its own order, epoch after epoch.
    """

    parts: Any  # by the key that `place` returns

    def place(self, row: int) -> tuple[Any, int]:
        """Returns (part, row within the part) for a row of the whole stream."""
        raise NotImplementedError

    def row_segments(self, step, start, end):
        places = map(self.place, range(step * self.rows + start, step * self.rows + end))
        return [self.segments_of(*place) for place in places]

    def segments_of(self, part: Any, row: int) -> list[Segment]:
        """Returns the segments of one row of a part."""
        return self.parts[part].row_segments(row, 0, 1)[0]


def shares(weights: Sequence[float], names: Sequence[str]) -> np.ndarray:
    """Returns each source's rows in a cycle, in proportion; the largest remainders round up.

    Raises UserError if a source would have no row.
    """
    exact = np.array(weights) / sum(weights) * CYCLE
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: CYCLE - counts.sum()]] += 1
    for name, weight, count in zip(names, weights, counts, strict=True):
        if not count:
            raise UserError(
                f"config.data.weights: {weight:g} of {sum(weights):g} for {name} is less than one "
                f"row in {CYCLE:,}; give it more, or leave it out of config.data.corpus"
            )
    return counts


class MixedBatches(Mixture):
    """Rows of several sources. The source of a row depends on (seed, row number). A small source
    with a large weight is read more often.

    Args:
        parts: the batches of each source.
        counts: rows of each source in a cycle, see `shares`.
    """

    def __init__(
        self, parts: Sequence[PretrainingBatches], counts: np.ndarray, rows: int, seed: int | str
    ):
        self.parts, self.counts, self.rows, self.seed = parts, counts, rows, seed
        self.layout, self.pad = parts[0].layout, parts[0].pad
        self.tokens = sum(part.tokens for part in parts)
        self._cycle = functools.lru_cache(2)(self._shuffled_cycle)

    def _shuffled_cycle(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the source of each row of a cycle, and that source's number of earlier rows."""
        order = np.repeat(np.arange(len(self.counts)), self.counts)
        order = generator(self.seed, "mixture", cycle).permutation(order)
        before = np.zeros(CYCLE, int)
        for source, count in enumerate(self.counts):
            before[order == source] = cycle * count + np.arange(count)
        return order, before

    def place(self, row):
        cycle, at = divmod(row, CYCLE)
        order, before = self._cycle(cycle)
        return int(order[at]), int(before[at])


class ObjectiveMixture(Mixture):
    """Rows of several kinds of attention. A row's place in the batch decides its attention, and so
    its objectives. Each kind of attention reads all of the data.

    Args:
        parts: the batches of each kind of attention.
        places: (first, end, cycle) of each, see `Loss.rows`.
        rows: rows of a batch, a multiple of the cycle.
        layout: the layout of all rows; arrays that an objective does not need are zero in its rows.
        once: read the split once, for evaluation; a kind that has no more rows gets empty rows of
            weight 0.
    """

    def __init__(
        self,
        parts: Mapping[Pattern, PretrainingBatches | MixedBatches],
        places: Mapping[Pattern, tuple[int, int, int]],
        rows: int,
        layout: Layout,
        once: bool = False,
    ):
        self.parts, self.places, self.rows = parts, places, rows
        self.layout, self.once = layout, once
        self.pad = next(iter(parts.values())).pad
        self.tokens = max(part.tokens for part in parts.values())

    def place(self, row):
        for pattern, (first, end, cycle) in self.places.items():
            turn, at = divmod(row, cycle)
            if first <= at < end:
                return pattern, turn * (end - first) + at - first
        raise ValueError(f"row {row} has no kind of attention in {self.places}")

    def segments_of(self, part, row):
        if self.once and row >= self.parts[part].epoch_batches(0):
            return []
        return super().segments_of(part, row)

    def epoch_batches(self, epoch, most=0):
        """With `once`, counts until all kinds of attention have read the split."""
        if not self.once:
            return super().epoch_batches(epoch, most)
        shares = {p: self.rows * (end - first) // c for p, (first, end, c) in self.places.items()}
        count = max(-(-part.epoch_batches(0) // shares[p]) for p, part in self.parts.items())
        return min(count, most) if most else count

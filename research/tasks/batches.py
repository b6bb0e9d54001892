"""Batches of a task as a function of (seed, step): examples are drawn, then packed into rows."""

import functools
from collections.abc import Sequence

import numpy as np

from research.data.batch import Layout, Segment, pack
from research.data.loader import Batches
from research.draws import generator

FEW = 50  # batches of a short epoch


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, "examples", epoch).permutation(count)


class TaskBatches(Batches):
    """Every example once an epoch, `examples` of them a batch, packed.

    All segments of an example lie in one batch. The number of rows is one of a few, so that a step
    is compiled for a few shapes only: what half of the first epoch's batches need, what nine of ten
    need, what all of them need, and eighths more for later ones; in a short epoch, which is sooner
    read than compiled for, what all of them need. What is missing is filled with rows of weight 0.

    Args:
        segments: for each example its segments.
        row_multiple: what the number of rows must be a multiple of (mesh and micro-batches).
    """

    def __init__(
        self,
        segments: Sequence[Sequence[Segment]],
        layout: Layout,
        pad: int,
        examples: int,
        seed: int,
        shuffle: bool = True,
        row_multiple: int = 1,
    ):
        self.segments, self.layout, self.pad = segments, layout, pad
        self.examples, self.seed, self.shuffle = examples, seed, shuffle
        needed = [len(self._packed(step)) for step in range(self.epoch_batches(0))]
        self.row_multiple = row_multiple
        shares = (1.0,) if len(needed) < FEW else (0.5, 0.9, 1.0)
        enough = np.quantile(needed, shares, method="higher")
        self.row_counts = sorted({self._round(int(n)) for n in enough})

    def _round(self, rows: int) -> int:
        return -(-rows // self.row_multiple) * self.row_multiple

    def _row_count(self, needed: int) -> int:
        """The number of rows that a batch with `needed` ones gets."""
        for count in self.row_counts:
            if needed <= count:
                return count
        eighth = max(1, self.row_counts[-1] // 8)
        return self._round(-(-needed // eighth) * eighth)

    def about_epoch_batches(self):
        """Exactly; the last one may have fewer examples."""
        return -(-len(self.segments) // self.examples)

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.segments))
        return _order(self.seed, epoch, len(self.segments))

    def _packed(self, step: int) -> list[list[Segment]]:
        epoch, index = self.locate(step)
        chosen = self._order(epoch)[index * self.examples : (index + 1) * self.examples]
        if self.layout.together:
            items = [list(self.segments[example]) for example in chosen]
        else:
            items = [[segment] for example in chosen for segment in self.segments[example]]
        rows = pack(
            [sum(map(len, item)) for item in items],
            self.layout.length,
            self.layout.segments,
            counts=[len(item) for item in items],
        )
        return [[segment for i in row for segment in items[i]] for row in rows]

    @functools.lru_cache(maxsize=4)  # noqa: B019  (lives as long as the run)
    def _rows(self, step: int) -> list[list[Segment]]:
        """The segments in all rows of the batch of a step, those of padding without any."""
        rows = self._packed(step)
        return rows + [[]] * (self._row_count(len(rows)) - len(rows))

    def row_segments(self, step, start=0, end=None):
        return self._rows(step)[start:end]

    def batch_rows(self, step):
        return len(self._rows(step))

    def fill(self) -> float:
        """Share of real tokens in the rows of the first epoch."""
        real = total = 0
        for step in range(self.epoch_batches(0)):
            rows = self._rows(step)
            real += sum(len(s) for row in rows for s in row)
            total += len(rows) * self.layout.length
        return real / total

"""Batches of a task as a function of (seed, step): draws examples and packs them into rows."""

import functools
from collections.abc import Sequence

import numpy as np

from research.data.batch import Layout, Segment, pack
from research.data.loader import Batches
from research.draws import generator

FEW = 50  # an epoch with fewer batches is short


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, "examples", epoch).permutation(count)


class TaskBatches(Batches):
    """Packed batches of `examples` examples; an epoch has every example once.

    All segments of an example are in one batch. A batch has one of a few row counts, so that a step
    is compiled for few shapes: enough for half, for 90 % and for all of the first epoch's batches,
    and steps of an eighth above for later ones. In a short epoch, where compiling takes longer than
    reading, it is the count that is enough for all. Rows of weight 0 fill the rest.

    Args:
        segments: the segments of each example.
        row_multiple: the number of rows is a multiple of it (mesh and micro-batches).
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
        """Returns the row count of a batch that needs `needed` rows."""
        for count in self.row_counts:
            if needed <= count:
                return count
        eighth = max(1, self.row_counts[-1] // 8)
        return self._round(-(-needed // eighth) * eighth)

    def about_epoch_batches(self):
        """Exact; the last batch may have fewer examples."""
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
        """Returns the segments of all rows of a step's batch; rows of padding have none."""
        rows = self._packed(step)
        return rows + [[]] * (self._row_count(len(rows)) - len(rows))

    def row_segments(self, step, start=0, end=None):
        return self._rows(step)[start:end]

    def batch_rows(self, step):
        return len(self._rows(step))

    def fill(self) -> float:
        """Returns the share of real tokens in the rows of the first epoch."""
        real = total = 0
        for step in range(self.epoch_batches(0)):
            rows = self._rows(step)
            real += sum(len(s) for row in rows for s in row)
            total += len(rows) * self.layout.length
        return real / total

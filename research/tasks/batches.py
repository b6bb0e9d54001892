"""Batches of a task as a function of (seed, step): examples are drawn, then packed into rows."""

import functools
from collections.abc import Sequence

import numpy as np

from research.data.batch import Batch, Layout, Slot, assemble, pack
from research.draws import generator

FEW = 50  # batches of a short epoch


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, "examples", epoch).permutation(count)


class TaskBatches:
    """Every example once an epoch, `examples` of them a batch, packed.

    All slots of an example lie in one batch. The number of rows is one of a few, so that a step is
    compiled for a few shapes only: what half of the first epoch's batches need, what nine of ten
    need, what all of them need, and eighths more for later ones; in a short epoch, which is sooner
    read than compiled for, what all of them need. What is missing is filled with rows of weight 0.

    Args:
        slots: for each example its slots.
        row_multiple: what the number of rows must be a multiple of (mesh and micro-batches).
    """

    def __init__(
        self,
        slots: Sequence[Sequence[Slot]],
        layout: Layout,
        pad: int,
        examples: int,
        seed: int,
        shuffle: bool = True,
        row_multiple: int = 1,
    ):
        self.slots, self.layout, self.pad = slots, layout, pad
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

    def epoch_batches(self, epoch: int, most: int = 0) -> int:
        """Batches of an epoch, at most `most` (0: all); the last one may have fewer examples."""
        found = -(-len(self.slots) // self.examples)
        return min(found, most) if most else found

    def about_epoch_batches(self) -> int:
        """Batches of an epoch, which are known."""
        return self.epoch_batches(0)

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, batch within it) of a step counted from 0."""
        return divmod(step, self.epoch_batches(0))

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.slots))
        return _order(self.seed, epoch, len(self.slots))

    def _packed(self, step: int) -> list[list[Slot]]:
        epoch, index = self.locate(step)
        chosen = self._order(epoch)[index * self.examples : (index + 1) * self.examples]
        if self.layout.together:
            items = [list(self.slots[example]) for example in chosen]
        else:
            items = [[slot] for example in chosen for slot in self.slots[example]]
        rows = pack(
            [sum(map(len, item)) for item in items],
            self.layout.length,
            self.layout.slots,
            counts=[len(item) for item in items],
        )
        return [[slot for i in row for slot in items[i]] for row in rows]

    @functools.lru_cache(maxsize=4)  # noqa: B019  (lives as long as the run)
    def rows(self, step: int) -> list[list[Slot]]:
        """The slots in the rows of the batch of a step, those of padding without any."""
        rows = self._packed(step)
        return rows + [[]] * (self._row_count(len(rows)) - len(rows))

    def batch_rows(self, step: int) -> int:
        """Rows of the batch of a step."""
        return len(self.rows(step))

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch:
        """Rows `start` to `end` of the batch of a step: the same whoever asks for them."""
        rows = self.rows(step)
        end = len(rows) if end is None else end
        batch = assemble(rows[start:end], self.layout, self.pad)
        batch["rows"] = np.arange(start, end, dtype=np.int32)
        return batch

    def fill(self) -> float:
        """Share of real tokens in the rows of the first epoch."""
        real = total = 0
        for step in range(self.epoch_batches(0)):
            rows = self.rows(step)
            real += sum(len(s) for row in rows for s in row)
            total += len(rows) * self.layout.length
        return real / total

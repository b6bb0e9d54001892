"""Batches of several objectives: some rows for those of each kind of attention, in turn."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from research.data.batch import Batch, Layout, Slot, empty
from research.data.store import Store
from research.models.attention import Pattern


class RowStream(Protocol):
    """Batches of one row, so that a step is a row: of one objective, or of a mixture of sources."""

    store: Store
    layout: Layout

    def slots(self, step: int, start: int, end: int) -> list[list[Slot]]: ...

    def assembled(self, rows: list[list[Slot]], start: int) -> Batch: ...

    def epoch_batches(self, epoch: int, most: int = 0) -> int: ...

    def about_epoch_batches(self) -> int: ...


class ObjectiveMixture:
    """A row's place in the batch says which attention it has, and so which objectives.

    Each kind of attention reads all of the data in epochs of its own. Arrays that an objective does
    not need are zero in its rows. A pass is as many batches as full rows of all tokens make.

    Args:
        parts: the rows of each kind of attention.
        places: (first, end, cycle) of each, see `Objective.rows`.
        rows: of a batch, a multiple of the cycle.
        layout: of the rows of all.
        once: the split is read once, to be measured: where one kind has no more rows, empty ones
            of weight 0 follow.
    """

    def __init__(
        self,
        parts: Mapping[Pattern, RowStream],
        places: Mapping[Pattern, tuple[int, int, int]],
        rows: int,
        layout: Layout,
        once: bool = False,
    ):
        self.parts, self.places, self.rows = parts, places, rows
        self.layout, self.once = layout, once

    def batch_rows(self, step: int) -> int:
        """Rows of a batch, the same for every step."""
        return self.rows

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch:
        """Rows `start` to `end` of the batch of a step: the same whoever asks for them."""
        end = self.rows if end is None else end
        batch = empty(end - start, self.layout, 0)
        batch["rows"] = np.arange(start, end, dtype=np.int32)
        for pattern, (first, last, cycle) in self.places.items():
            rows = [r for r in range(start, end) if first <= r % cycle < last]
            # The cycle divides a batch's rows, so a row's place in it is the same in every step.
            numbers = [
                (step * self.rows + r) // cycle * (last - first) + r % cycle - first for r in rows
            ]
            made = self._part(pattern, numbers)
            made.pop("rows")
            for name, values in made.items():
                shape = (end - start, *values.shape[1:])
                whole = batch.setdefault(name, np.zeros(shape, values.dtype))
                whole[np.array(rows, int) - start] = values
        return batch

    def _part(self, pattern: Pattern, numbers: list[int]) -> Batch:
        """The rows with these numbers of a kind of attention."""
        part = self.parts[pattern]
        count = part.epoch_batches(0) if self.once else None
        rows = [[] if count is not None and n >= count else part.slots(n, 0, 1)[0] for n in numbers]
        return part.assembled(rows, 0)

    def epoch_batches(self, epoch: int, most: int = 0) -> int:
        """Batches of a pass, at most `most` (0: all); of a split read once, until all are read."""
        found = self._read_once() if self.once else self.about_epoch_batches()
        return min(found, most) if most else found

    def _read_once(self) -> int:
        shares = {p: self.rows * (last - first) // c for p, (first, last, c) in self.places.items()}
        return max(-(-part.epoch_batches(0) // shares[p]) for p, part in self.parts.items())

    def about_epoch_batches(self) -> int:
        """Batches of a pass."""
        rows = max(part.about_epoch_batches() for part in self.parts.values())
        return -(-rows // self.rows)

    def locate(self, step: int) -> tuple[int, int]:
        """(pass, batch within it) of a step counted from 0."""
        return divmod(step, self.about_epoch_batches())

"""Batches of several sources whose shares are given: rows of each by its weight."""

import functools
from collections.abc import Sequence

import numpy as np

from research.data.batch import Batch, Slot
from research.draws import generator
from research.errors import UserError
from research.objectives.batches import PretrainingBatches

CYCLE = 10_000  # rows among which each source has its exact share


def shares(weights: Sequence[float], names: Sequence[str]) -> np.ndarray:
    """Rows of each source in a cycle: in proportion, the largest remainders rounded up.

    Raises UserError for a source that would have none.
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


class MixedBatches:
    """Rows of several sources; which source a row is of depends on (seed, number of the row).

    A source gives its own rows in the order of its own epochs, again and again: a small one with a
    large weight is read more often. A pass is as many batches as full rows of all tokens make.

    Args:
        parts: of each source, with batches of one row, so that a step of it is a row.
        counts: rows of each in a cycle, see `shares`.
    """

    def __init__(
        self, parts: Sequence[PretrainingBatches], counts: np.ndarray, rows: int, seed: int
    ):
        self.parts, self.counts, self.rows, self.seed = parts, counts, rows, seed
        self.layout = parts[0].layout
        self._cycle = functools.lru_cache(2)(self._shuffled_cycle)

    def _shuffled_cycle(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        """For each row of a cycle its source, and how many rows of that source came before it."""
        order = np.repeat(np.arange(len(self.counts)), self.counts)
        order = generator(self.seed, "mixture", cycle).permutation(order)
        before = np.zeros(CYCLE, int)
        for source, count in enumerate(self.counts):
            before[order == source] = cycle * count + np.arange(count)
        return order, before

    def source(self, row: int) -> tuple[int, int]:
        """(source, number of the row within it) of a row of the whole stream."""
        cycle, at = divmod(row, CYCLE)
        order, before = self._cycle(cycle)
        return int(order[at]), int(before[at])

    def batch_rows(self, step: int) -> int:
        """Rows of a batch, the same for every step."""
        return self.rows

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch:
        """Rows `start` to `end` of the batch of a step: the same whoever asks for them."""
        end = self.rows if end is None else end
        return self.assembled(self.slots(step, start, end), start)

    def slots(self, step: int, start: int, end: int) -> list[list[Slot]]:
        """The slots of the rows `start` to `end` of the batch of a step."""
        places = [self.source(step * self.rows + row) for row in range(start, end)]
        return [self.parts[source].slots(row, 0, 1)[0] for source, row in places]

    def assembled(self, rows: list[list[Slot]], start: int) -> Batch:
        """The arrays of a batch's rows from `start` on."""
        return self.parts[0].assembled(rows, start)

    def epoch_batches(self, epoch: int, most: int = 0) -> int:
        """Batches of a pass, at most `most` (0: all)."""
        found = self.about_epoch_batches()
        return min(found, most) if most else found

    def about_epoch_batches(self) -> int:
        """Batches of a pass."""
        tokens = sum(part.store.counts["tokens"] for part in self.parts)
        return -(-tokens // (self.rows * self.layout.length))

    def locate(self, step: int) -> tuple[int, int]:
        """(pass, batch within it) of a step counted from 0."""
        return divmod(step, self.about_epoch_batches())

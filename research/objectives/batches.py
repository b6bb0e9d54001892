"""Pre-training batches from a token store, as a function of (seed, step)."""

import collections
import functools
import threading
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from research.data import plan
from research.data.batch import Segment
from research.data.loader import Batches
from research.data.row_counts import RowCounts
from research.data.store import Store
from research.data.tokenizer import Tokenizer
from research.draws import generator
from research.errors import UserError
from research.objectives.objective import Objective, Text, planner, row_layout

SAMPLE = 64  # blocks at most in which `fill` measures the rows
WINDOW = 16  # blocks whose rows are shuffled together, so that a bucket is read in large pieces


class PretrainingBatches(Batches):
    """Rows of an epoch; their order and contents depend on (seed, epoch) alone.

    Args:
        objectives: objectives with the same kind of attention, which share rows (`mixture` combines
            several kinds).
        rows: rows of a batch; rows of weight 0 fill the last batch of an epoch.
        seed: seed of all random draws; a constant in evaluation.
        shuffle: False reads the blocks in order (evaluation; one epoch).
        source: the number of the one source to read; default: all of the store.
    """

    def __init__(
        self,
        store: Store,
        tokenizer: Tokenizer,
        objectives: Sequence[Objective],
        length: int,
        segments: int,
        rows: int,
        seed: int | str,
        shuffle: bool = True,
        source: int | None = None,
    ):
        self.store, self.tokenizer, self.objectives = store, tokenizer, tuple(objectives)
        self.rows, self.seed, self.shuffle, self.source = rows, seed, shuffle, source
        self.pad, self.planner = tokenizer.pad, planner(objectives)
        self.layout = row_layout(objectives, length, segments)
        for objective in objectives:  # before the first block is read
            objective.check_tokenizer(tokenizer)
            objective.check_split(store.counts)
        self._lock = threading.RLock()  # the loader's and the loop's threads call `locate`
        self._epochs: list[int] = [0]  # first batch of each epoch known so far
        # Epoch -> first row of each window known so far, and of the next one.
        self._starts: dict[int, list[int]] = collections.defaultdict(lambda: [0])
        # Caches per object, since several sources are read side by side.
        self.block = functools.lru_cache(2 * WINDOW)(store.block)
        spelt = tokenizer.byte_lengths()
        self._bytes = functools.lru_cache(2 * WINDOW)(lambda b: store.byte_lengths(spelt, b))
        self.block_plan = functools.lru_cache(2 * WINDOW)(self._block_plan)
        self._text = functools.lru_cache(2 * WINDOW)(self._read)
        self._window = functools.lru_cache(4)(self._shuffled_window)
        self._order = functools.lru_cache(2)(self._block_order)
        # Everything that a block's plan depends on.
        options = [(o.name, o.options) for o in objectives]
        key = (plan.FORMAT, options, self.layout, seed, source)
        self._counts = RowCounts(store.path, store.blocks, key, keep=store.blocks > WINDOW)

    @property
    def tokens(self):
        return self.store.counts["tokens"]

    # -- the plan ---------------------------------------------------------------------------

    def predicted(self, tokens: int) -> int:
        """Returns how many positions of a segment of `tokens` tokens are predicted."""
        return sum(objective.predicted(tokens) for objective in self.objectives)

    def _read(self, block: int) -> Text:
        data = self.block(block)
        read = np.ones(len(data.sources), bool)
        if self.source is not None:
            read = data.sources == self.source
        return Text(data, read, self.tokenizer, self.layout, lambda: self._bytes(block))

    def _block_plan(self, epoch: int, block: int) -> np.ndarray:
        """Plans a block's rows in an epoch: segments of dtype `plan.SEGMENT`, ordered by row."""
        layout = self.layout
        rows = plan.Rows(layout.length, layout.segments, layout.predictions, self.predicted)
        rng = generator(self.seed, "plan", epoch, block)
        return self.planner.plan(self._text(block), rows, rng)

    def _block_order(self, epoch: int) -> np.ndarray:
        order = np.arange(self.store.blocks)
        return generator(self.seed, "blocks", epoch).permutation(order) if self.shuffle else order

    def _shuffled_window(self, epoch: int, index: int) -> np.ndarray:
        """Returns (block, row) of the rows of one window of blocks, int [n, 2], in their order."""
        parts = []
        for block in self._order(epoch)[index * WINDOW : (index + 1) * WINDOW]:
            rows = np.arange(_rows(self.block_plan(epoch, int(block))))
            parts.append(np.stack([np.full_like(rows, block), rows], axis=1))
        rows = np.concatenate(parts)
        if self.shuffle:
            rows = generator(self.seed, "rows", epoch, index).permutation(rows)
        return rows

    def _window_starts(self, epoch: int, row: int | None = None) -> list[int]:
        """Returns the first row of each window of an epoch, and of the next one.

        Covers at least the windows up to the one with `row`, by default all of them. A window's
        rows are counted once, when a later row is first needed.
        """
        with self._lock:
            starts = self._starts[epoch]
            while len(starts) <= -(-self.store.blocks // WINDOW):
                if row is not None and starts[-1] > row:
                    break
                index = len(starts) - 1
                blocks = self._order(epoch)[index * WINDOW : (index + 1) * WINDOW]
                rows = self._counts.rows(
                    epoch, blocks, lambda block: _rows(self.block_plan(epoch, block))
                )
                starts.append(starts[-1] + rows)
            return starts

    def epoch_rows(self, epoch: int, most: int | None = None) -> int:
        """Returns the rows of an epoch, or some number above `most` if there are more than that."""
        return self._window_starts(epoch, most)[-1]

    def epoch_batches(self, epoch, most=0):
        """Rows of weight 0 fill the last batch. Counting stops at `most`, as it needs the plan of
        the epoch."""
        count = -(-self.epoch_rows(epoch, most * self.rows if most else None) // self.rows)
        return min(count, most) if most else count

    def locate(self, step):
        """Counts the rows before the step, or reads their counts from an earlier run."""
        with self._lock:
            while True:
                epoch = bisect_right(self._epochs, step) - 1
                batch = step - self._epochs[epoch]
                if epoch + 1 < len(self._epochs):
                    return epoch, batch
                rows = self.epoch_rows(epoch, batch * self.rows)
                if rows > batch * self.rows:
                    return epoch, batch
                self._epochs.append(self._epochs[epoch] - (-rows // self.rows))

    def _row_refs(self, epoch: int, start: int, end: int) -> list[tuple[int, int] | None]:
        """Returns (block, row) of the rows `start` to `end` of an epoch; None past its end."""
        refs: list[tuple[int, int] | None] = []
        starts = self._window_starts(epoch, end)
        for index in range(bisect_right(starts, start) - 1, len(starts) - 1):
            at, window = starts[index], self._window(epoch, index)
            if len(window) != starts[index + 1] - at:
                raise UserError(f"{self._counts.folder} has row counts of other data; delete it")
            refs.extend((int(b), int(r)) for b, r in window[max(0, start - at) : end - at])
            if starts[index + 1] >= end:
                break
        return refs + [None] * (end - start - len(refs))

    # -- the batch --------------------------------------------------------------------------

    def row_segments(self, step, start, end):
        epoch, index = self.locate(step)
        at = index * self.rows
        rows = []
        for ref in self._row_refs(epoch, at + start, at + end):
            segments = []
            if ref:
                block, row = ref
                planned = self.block_plan(epoch, block)
                lo, hi = np.searchsorted(planned["row"], [row, row + 1])
                segments = [self._segment(epoch, block, int(i), planned[i]) for i in range(lo, hi)]
            rows.append(segments)
        return rows

    def _segment(self, epoch: int, block: int, index: int, planned: np.void) -> Segment:
        def draw(purpose: str) -> np.random.Generator:
            return generator(self.seed, purpose, epoch, block, index)

        segment = self.planner.segment(self._text(block), planned, draw)
        for objective in self.objectives:
            segment = objective.edit(segment, self.tokenizer, draw)
        return segment


def _rows(planned: np.ndarray) -> int:
    """Returns the number of rows in a block's plan."""
    return int(planned["row"][-1]) + 1 if len(planned) else 0


def fill(data: PretrainingBatches, epoch: int = 0) -> dict[str, float]:
    """Measures an epoch's rows: share of real tokens, segments and predictions per row.

    Reads SAMPLE blocks spread over the store and scales `rows` to the whole store; it is exact for
    a store of at most SAMPLE blocks.
    """
    lengths, specials = collections.Counter(), data.planner.specials(data.tokenizer)
    segments = tokens = predictions = rows = 0
    sample = np.unique(np.linspace(0, data.store.blocks - 1, SAMPLE).astype(int))
    for block in sample.tolist():
        planned = data.block_plan(epoch, block)
        sizes = planned["end"] - planned["start"] + planned["end_b"] - planned["start_b"]
        sizes = sizes + np.take(specials, planned["doc_b"] >= 0)
        rows += _rows(planned)
        tokens += int(sizes.sum())
        segments += len(sizes)
        lengths.update(np.minimum(sizes, data.layout.length).tolist())
        if data.layout.predictions:
            predictions += sum(data.predicted(int(n)) for n in sizes)
    return {
        "rows": round(rows * data.store.blocks / len(sample)),
        "real_tokens": tokens / (rows * data.layout.length),
        "segments_per_row": segments / rows,
        "predictions_per_row": predictions / rows,
        "lengths": lengths,
    }

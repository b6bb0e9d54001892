"""Batches of pre-training as a function of (seed, step), over a token store."""

import collections
import functools
import threading
from bisect import bisect_right

import numpy as np

from research.data import masking, plan
from research.data.batch import Batch, Layout, Slot, assemble
from research.data.draws import generator
from research.data.row_counts import RowCounts
from research.data.store import Store
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.objectives import ObjectivesConfig, masked_lm, next_sentence, sentence_order

SAMPLE = 64  # blocks at most in which is measured how full rows are
WINDOW = 16  # blocks whose rows are shuffled together: a bucket is read in large pieces


def row_layout(objectives: ObjectivesConfig, length: int, slots: int) -> Layout:
    """Capacities and arrays of the rows that these objectives learn from."""
    masked, prefix = objectives.masked_lm, objectives.prefix_lm is not None
    continued = prefix or objectives.causal_lm is not None
    labels = {
        next_sentence.LABEL: objectives.next_sentence,
        sentence_order.LABEL: objectives.sentence_order,
    }
    return Layout(
        length,
        slots,
        predictions=masked_lm.capacity(length, masked.rate) if masked else 0,
        targets=continued,
        bytes=continued,
        prefix=prefix,
        labels=tuple(name for name, asked in labels.items() if asked),
    )


def check_tokenizer(objectives: ObjectivesConfig, tokenizer: Tokenizer) -> None:
    """Raises UserError for a special token that these objectives need and it does not have."""
    if objectives.causal_lm or objectives.prefix_lm:
        tokenizer.require("eos", "it stands between documents")
    framed = objectives.masked_lm or objectives.next_sentence or objectives.sentence_order
    if framed and not tokenizer.own_frame:
        tokenizer.require("cls", "every slot begins with it")
        tokenizer.require("sep", "every segment ends with it")
    if objectives.masked_lm:
        tokenizer.require("mask", "masked language modelling replaces tokens by it")


class PretrainingBatches:
    """Rows of an epoch, in an order and with contents that depend on (seed, epoch) alone.

    Args:
        objectives: of one kind of attention (`research.data.objective_mixture` has several).
        rows: rows of a batch; the last batch of an epoch is filled with rows of weight 0.
        seed: of everything drawn. In evaluation a constant of the project.
        shuffle: False reads the blocks in order (evaluation; one epoch).
        source: the number of the one source that is read; default: all of the store.
    """

    def __init__(
        self,
        store: Store,
        tokenizer: Tokenizer,
        objectives: ObjectivesConfig,
        length: int,
        slots: int,
        rows: int,
        seed: int | str,
        shuffle: bool = True,
        source: int | None = None,
    ):
        self.store, self.tokenizer, self.objectives = store, tokenizer, objectives
        self.rows, self.seed, self.shuffle, self.source = rows, seed, shuffle, source
        self.pairs = objectives.next_sentence or objectives.sentence_order
        self.rate = objectives.masked_lm.rate if objectives.masked_lm else 0.0
        self.causal = bool(objectives.causal_lm or objectives.prefix_lm)
        self.layout = row_layout(objectives, length, slots)
        self._ordinary = np.array(
            [i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids]
        )
        self._special = np.array(sorted(tokenizer.special_ids))
        if objectives.next_sentence:  # now, not when such a block's turn comes
            plan.check_pairs(store.counts["paired_documents"])
        self._lock = threading.RLock()  # the loader's thread and the loop's ask where a step is
        self._epochs: list[int] = [0]  # first batch of each epoch known so far
        # First row of each window of an epoch known so far, and of the next one.
        self._starts: dict[int, list[int]] = collections.defaultdict(lambda: [0])
        # Caches of its own: several sources are read side by side.
        self.block = functools.lru_cache(2 * WINDOW)(store.block)
        spelt = tokenizer.byte_lengths()
        self._bytes = functools.lru_cache(2 * WINDOW)(lambda b: store.byte_lengths(spelt, b))
        self.block_plan = functools.lru_cache(2 * WINDOW)(self._block_plan)
        self._window = functools.lru_cache(4)(self._shuffled_window)
        self._order = functools.lru_cache(2)(self._block_order)
        check_tokenizer(objectives, tokenizer)
        self._begin = tokenizer.begin("it begins every document") if self.causal else ()
        # Positions that a slot needs beside its text, and beside its two texts.
        framed = [len(tokenizer.frame(n)) for n in (1, 2)] if not self.causal else (0, 0)
        self.specials = (framed[0], framed[1])
        # All that a block's plan depends on.
        key = (plan.FORMAT, self.pairs, self.rate, self.causal, self.layout, seed, source)
        self._counts = RowCounts(store.path, store.blocks, key, keep=store.blocks > WINDOW)

    # -- the plan ---------------------------------------------------------------------------

    def _block_plan(self, epoch: int, block: int) -> np.ndarray:
        """Slots of a block's rows in an epoch, dtype `plan.SLOT`, ordered by row."""
        rng = generator(self.seed, "plan", epoch, block)
        data, layout = self.block(block), self.layout
        predicted = functools.partial(masking.predicted_count, rate=self.rate)
        limits = (layout.predictions, predicted if self.rate else lambda n: 0)
        read = np.ones(len(data.sources), bool)
        if self.source is not None:
            read = data.sources == self.source
        lengths, sizes = data.lengths * read, (layout.length, layout.slots, rng)
        if self.causal:  # more inputs: what begins the document
            return plan.plan_slices(lengths + len(self._begin) * read, *sizes, 0)
        if not self.pairs:
            return plan.plan_slices(lengths, *sizes, self.specials[0], *limits)
        offsets = [o if r else [0] for o, r in zip(data.sentence_offsets(), read, strict=True)]
        sizes += (self.pairs.short, *limits)
        if self.objectives.next_sentence:
            return plan.plan_pairs(offsets, data.sources, *sizes, self.specials)
        return plan.plan_ordered_pairs(offsets, *sizes, self.specials[1])

    def _block_order(self, epoch: int) -> np.ndarray:
        order = np.arange(self.store.blocks)
        return generator(self.seed, "blocks", epoch).permutation(order) if self.shuffle else order

    def _shuffled_window(self, epoch: int, index: int) -> np.ndarray:
        """(block, row) of the rows of one window of blocks, int32 [n, 2], in their order."""
        found = []
        for block in self._order(epoch)[index * WINDOW : (index + 1) * WINDOW]:
            rows = np.arange(_rows(self.block_plan(epoch, int(block))))
            found.append(np.stack([np.full_like(rows, block), rows], axis=1))
        rows = np.concatenate(found)
        if self.shuffle:
            rows = generator(self.seed, "rows", epoch, index).permutation(rows)
        return rows

    def _window_starts(self, epoch: int, row: int | None = None) -> list[int]:
        """The first row of each window of an epoch, and of what follows.

        Known are at least the windows up to the one with `row`, by default all of them: a window's
        rows are counted, once, when what lies behind it is asked for.
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
        """Rows of an epoch; where there are more than `most`, some number above it."""
        return self._window_starts(epoch, most)[-1]

    def epoch_batches(self, epoch: int, most: int = 0) -> int:
        """Batches of an epoch, the last one filled up with rows of weight 0.

        most: count no further (0: all); the whole epoch has to be planned to be counted.
        """
        found = -(-self.epoch_rows(epoch, most * self.rows if most else None) // self.rows)
        return min(found, most) if most else found

    def about_epoch_batches(self) -> int:
        """Batches of an epoch as they would be if rows were full: nothing is planned for it."""
        return -(-self.store.counts["tokens"] // (self.rows * self.layout.length))

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, batch within it) of a step counted from 0.

        The rows of what lies before the step are counted, or known from an earlier run.
        """
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
        """(block, row) of the rows `start` to `end` of an epoch; None past its end."""
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

    def batch_rows(self, step: int) -> int:
        """Rows of a batch, the same for every step."""
        return self.rows

    # -- the batch --------------------------------------------------------------------------

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch:
        """Rows `start` to `end` of the batch of a step: the same whoever asks for them."""
        end = self.rows if end is None else end
        return self.assembled(self.slots(step, start, end), start)

    def slots(self, step: int, start: int, end: int) -> list[list[Slot]]:
        """The slots of the rows `start` to `end` of the batch of a step."""
        epoch, index = self.locate(step)
        at = index * self.rows
        rows = []
        for ref in self._row_refs(epoch, at + start, at + end):
            slots = []
            if ref:
                block, row = ref
                planned = self.block_plan(epoch, block)
                lo, hi = np.searchsorted(planned["row"], [row, row + 1])
                slots = [self._slot(epoch, block, int(i), planned[i]) for i in range(lo, hi)]
            rows.append(slots)
        return rows

    def assembled(self, rows: list[list[Slot]], start: int) -> Batch:
        """The arrays of a batch's rows from `start` on."""
        batch = assemble(rows, self.layout, self.tokenizer.pad)
        batch["rows"] = np.arange(start, start + len(rows), dtype=np.int32)
        return batch

    def _slot(self, epoch: int, block: int, index: int, planned: np.void) -> Slot:
        data = self.block(block)
        doc, start, end = (int(planned[k]) for k in ("doc", "start", "end"))
        if self.causal:
            prefix = 0
            if self.layout.prefix:  # it leaves at least one token to be predicted
                rng = generator(self.seed, "prefix", epoch, block, index)
                prefix = int(rng.integers(1, max(2, end - start)))
            return self._causal_slot(block, doc, start, end, prefix)
        slices = [data.slice(doc, start, end)]
        if planned["doc_b"] >= 0:
            slices.append(data.slice(*(int(planned[k]) for k in ("doc_b", "start_b", "end_b"))))
        frame = self.tokenizer.frame(len(slices))
        clean, types = frame.around([tokens for tokens, _ in slices])
        starts = frame.flags([words for _, words in slices])
        labels = dict.fromkeys(self.layout.labels, int(planned["label"]))
        if not self.rate:
            return Slot(clean, types, labels=labels)
        found = masking.corrupt(
            clean,
            np.isin(clean, self._special),
            starts,
            self.rate,
            self.objectives.masked_lm.unit,
            self.tokenizer.mask,
            self._ordinary,
            generator(self.seed, "mask", epoch, block, index),
        )
        return Slot(
            found.tokens,
            types,
            labels=labels,
            predict_positions=found.positions,
            predict_targets=found.targets,
        )

    def _causal_slot(self, block: int, doc: int, start: int, end: int, prefix: int) -> Slot:
        """Inputs are what begins a text, tokens…; targets the same one further, <end of text> last.
        Of what lies in a prefix nothing is predicted, and nothing of what begins the text."""
        data, before = self.block(block), len(self._begin)
        size = int(data.lengths[doc])
        tokens, _ = data.slice(doc, max(0, start - before), min(size, max(0, end + 1 - before)))
        last = [self.tokenizer.eos] * (end == size + before)
        text = np.concatenate([self._begin[start : end + 1], tokens, last]).astype(np.int32)
        n = end - start
        weights = np.ones(n)
        weights[: max(0, prefix - 1, before - 1 - start)] = 0.0
        return Slot(
            text[:-1],
            np.zeros(n, np.int32),
            targets=text[1:],
            target_weights=weights,
            target_bytes=self._bytes(block)[text[1:]],
            prefix=prefix,
        )


def _rows(planned: np.ndarray) -> int:
    """Rows of a block's plan."""
    return int(planned["row"][-1]) + 1 if len(planned) else 0


def fill(data: PretrainingBatches, epoch: int = 0) -> dict[str, float]:
    """How full the rows of an epoch are: share of real tokens, slots of a row, predictions.

    Measured in SAMPLE blocks from all over the store; `rows` is that many times as large as the
    sample as the store is, exact in a store that is no larger.
    """
    lengths = collections.Counter()
    slots = tokens = predictions = rows = 0
    sample = np.unique(np.linspace(0, data.store.blocks - 1, SAMPLE).astype(int))
    for block in sample.tolist():
        planned = data.block_plan(epoch, block)
        sizes = planned["end"] - planned["start"] + planned["end_b"] - planned["start_b"]
        sizes = sizes + np.take(data.specials, planned["doc_b"] >= 0)
        rows += _rows(planned)
        tokens += int(sizes.sum())
        slots += len(sizes)
        lengths.update(np.minimum(sizes, data.layout.length).tolist())
        if data.rate:
            predictions += sum(masking.predicted_count(int(n), data.rate) for n in sizes)
    return {
        "rows": round(rows * data.store.blocks / len(sample)),
        "real_tokens": tokens / (rows * data.layout.length),
        "slots_per_row": slots / rows,
        "predictions_per_row": predictions / rows,
        "lengths": lengths,
    }

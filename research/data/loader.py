"""Turns batches, functions of the step, into arrays on the mesh; a thread reads ahead."""

import queue
import threading

import jax
import numpy as np
from jax.sharding import NamedSharding

from research.data.batch import Batch, Layout, Segment, assemble


class Batches:
    """A data set whose batches depend on the step (from 0) alone, not on earlier ones.

    A subclass defines `row_segments`. By default all batches have the same size, and an epoch is as
    long as all tokens in full rows.

    Attributes:
      rows: rows of a batch; layout: the layout of each row.
      pad: the id of padding, None if the tokenizer has none.
      tokens: number of tokens of the data set.
    """

    rows: int
    layout: Layout
    pad: int | None
    tokens: int

    def row_segments(self, step: int, start: int, end: int) -> list[list[Segment]]:
        """Returns the segments of rows `start` to `end` of the batch of a step."""
        raise NotImplementedError

    def batch_rows(self, step: int) -> int:
        """Returns the number of rows in the batch of a step."""
        return self.rows

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch:
        """Returns rows `start` to `end` of a step's batch, the same in every process."""
        end = self.batch_rows(step) if end is None else end
        batch = assemble(self.row_segments(step, start, end), self.layout, self.pad)
        batch["rows"] = np.arange(start, end, dtype=np.int32)
        return batch

    def about_epoch_batches(self) -> int:
        """Returns the batches of an epoch, or an estimate if exact counting needs a plan."""
        return -(-self.tokens // (self.rows * self.layout.length))

    def epoch_batches(self, epoch: int, most: int = 0) -> int:
        """Returns the number of batches in an epoch, at most `most` (0: all)."""
        count = self.about_epoch_batches()
        return min(count, most) if most else count

    def locate(self, step: int) -> tuple[int, int]:
        """Returns (epoch, batch within the epoch) of a step."""
        return divmod(step, self.about_epoch_batches())


def device_batch(data: Batches, step: int, sharding: NamedSharding) -> dict[str, jax.Array]:
    """The batch of a step, each process building exactly the rows its devices hold."""
    rows = data.batch_rows(step)
    places = sharding.addressable_devices_indices_map((rows,)).values()
    spans = sorted({place[0].indices(rows)[:2] for place in places})
    parts = {span: data.batch(step, *span) for span in spans}
    template = parts[spans[0]]

    def shard(name: str):
        return lambda index: parts[index[0].indices(rows)[:2]][name]

    return {
        name: jax.make_array_from_callback((rows, *array.shape[1:]), sharding, shard(name))
        for name, array in template.items()
    }


class Ahead:
    """Iterates over the batches from step `start` on; a thread builds them while the device works.

    `next` raises an error of the thread in place of its batch.
    """

    def __init__(
        self, data: Batches, start: int, end: int, sharding: NamedSharding, depth: int = 2
    ):
        self._queue: queue.Queue = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(data, start, end, sharding), daemon=True
        )
        self._thread.start()

    def _work(self, data: Batches, start: int, end: int, sharding: NamedSharding) -> None:
        for step in range(start, end):
            try:
                item = device_batch(data, step, sharding)
            except Exception as error:  # handed to the thread that waits for the batch
                item = error
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stop.is_set() or isinstance(item, Exception):
                return

    def __next__(self) -> dict[str, jax.Array]:
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Stops the thread and drops the batches read ahead."""
        self._stop.set()
        self._thread.join(timeout=10)

"""From a function of the step to arrays on the mesh, read ahead in a thread."""

import queue
import threading

import jax
import numpy as np
from jax.sharding import NamedSharding

from research.data.batch import Batch, Layout, Segment, assemble


class Batches:
    """A data set as batches that depend on the step, counted from 0, and on nothing before it.

    A subclass has `row_segments`, and overrides what else is not as here: batches of one size, in
    epochs of as many as full rows of all tokens make.

    Attributes:
      rows: of a batch; layout: of each of them.
      pad: the id of padding, None where the tokenizer has none.
      tokens: of all that is read.
    """

    rows: int
    layout: Layout
    pad: int | None
    tokens: int

    def row_segments(self, step: int, start: int, end: int) -> list[list[Segment]]:
        """The segments of the rows `start` to `end` of the batch of a step."""
        raise NotImplementedError

    def batch_rows(self, step: int) -> int:
        """Rows of the batch of a step."""
        return self.rows

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch:
        """Rows `start` to `end` of the batch of a step: the same whoever asks for them."""
        end = self.batch_rows(step) if end is None else end
        batch = assemble(self.row_segments(step, start, end), self.layout, self.pad)
        batch["rows"] = np.arange(start, end, dtype=np.int32)
        return batch

    def about_epoch_batches(self) -> int:
        """Batches of an epoch, or about as many where rows would have to be planned to count."""
        return -(-self.tokens // (self.rows * self.layout.length))

    def epoch_batches(self, epoch: int, most: int = 0) -> int:
        """Batches of an epoch, at most `most` (0: all)."""
        count = self.about_epoch_batches()
        return min(count, most) if most else count

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, batch within it) of a step."""
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
    """Batches of the steps from `start` on, built by a thread while the device works.

    An error in the thread is raised where the batch would have been taken.
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
        """Stops the thread; batches read ahead are thrown away."""
        self._stop.set()
        self._thread.join(timeout=10)

"""From a function of the step to arrays on the mesh, read ahead in a thread."""

import queue
import threading
from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

from research.data.batch import Batch


class Batches(Protocol):
    """What the loop needs of a data set."""

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch: ...

    def batch_rows(self, step: int) -> int: ...

    def locate(self, step: int) -> tuple[int, int]: ...

    def epoch_batches(self, epoch: int, most: int = 0) -> int: ...

    def about_epoch_batches(self) -> int: ...


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

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return self

    def close(self) -> None:
        """Stops the thread; batches read ahead are thrown away."""
        self._stop.set()
        self._thread.join(timeout=10)


def real_tokens(batch: Batch) -> int:
    """Tokens of a batch that are not padding."""
    return int(np.count_nonzero(batch["slots"]))

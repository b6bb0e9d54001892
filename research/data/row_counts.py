"""How many rows each block has in each epoch: counted once, kept beside the store.

A run that goes on at step N needs to know how many rows lie before it, not what is in them. The
counts are a memo and nothing else: without them, they are made again from the plans.
"""

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from research.data import checksums
from research.sharding import processes


class RowCounts:
    """Args:
    store: folder of the token store.
    blocks: how many it has.
    key: all that the plan of a block depends on beside block and epoch.
    keep: whether counts are written; those of a small store are sooner made than read.
    """

    def __init__(self, store: Path, blocks: int, key: tuple, keep: bool):
        self._blocks, self._keep = blocks, keep
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        self.folder = store / "rows" / digest
        self._known: dict[int, np.ndarray] = {}

    def rows(self, epoch: int, blocks: Iterable[int], count: Callable[[int], int]) -> int:
        """Rows of some blocks of an epoch together; `count` counts those of one."""
        known = self._known.get(epoch)
        if known is None:
            known = self._known[epoch] = self._read(epoch)
        wanted = [int(block) for block in blocks]
        unknown = [block for block in wanted if known[block] < 0]
        for block in unknown:
            known[block] = count(block)
        if unknown and self._keep:
            self._write(epoch, known)
        return int(known[wanted].sum())

    def _path(self, epoch: int) -> Path:
        return self.folder / f"{epoch:05d}.npy"

    def _read(self, epoch: int) -> np.ndarray:
        """Rows of each block, int32 [blocks], -1 where they are not known."""
        path = self._path(epoch)
        damage = checksums.damage(path)
        if damage == "":
            return np.load(path)
        if damage and processes.first():
            print(f"{path} is damaged ({damage}): rows are counted again", file=sys.stderr)
        return np.full(self._blocks, -1, np.int32)  # none yet, or none with a checksum

    def _write(self, epoch: int, known: np.ndarray) -> None:
        # A store that may only be read, or a full disk: they are counted again.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            checksums.save(self._path(epoch), lambda part: np.save(part, known))

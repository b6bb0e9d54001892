"""Caches the number of rows of each block in each epoch, beside the store.

A run that resumes at step N needs the number of rows before it, not their content. Without the
cache, the rows are counted again from the plans.
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
    blocks: its number of blocks.
    key: everything that a block's plan depends on, except block and epoch.
    keep: whether to write counts; a small store is faster to count than to read.
    """

    def __init__(self, store: Path, blocks: int, key: tuple, keep: bool):
        self._blocks, self._keep = blocks, keep
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        self.folder = store / "rows" / digest
        self._known: dict[int, np.ndarray] = {}

    def rows(self, epoch: int, blocks: Iterable[int], count: Callable[[int], int]) -> int:
        """Returns the total rows of some blocks in an epoch; `count` counts those of one block."""
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
        """Returns the rows of each block, int32 [blocks], -1 for unknown ones."""
        path = self._path(epoch)
        damage = checksums.damage(path)
        if damage == "":
            return np.load(path)
        if damage and processes.first():
            print(f"{path} is damaged ({damage}): rows are counted again", file=sys.stderr)
        return np.full(self._blocks, -1, np.int32)  # not counted yet, or without a checksum

    def _write(self, epoch: int, known: np.ndarray) -> None:
        # On a read-only store or a full disk the rows are counted again next time.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            checksums.save(self._path(epoch), lambda part: np.save(part, known))

"""Checksums of files and folders of arrays that are written once and read later.

A folder keeps the checksums of its files in NAME, a single file has its own beside it (FILE.sum):
size in bytes and CRC-32, which detect damage by disks, copies and kills (but not tampering). A file
appears only when it is complete and flushed to disk.
"""

import contextlib
import functools
import json
import shutil
import sys
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from research import bucket
from research.errors import UserError
from research.sharding import processes

NAME = "checksums.json"
CHUNK = 1 << 20  # bytes per read
WAIT = 60  # seconds that a process waits for the first one to rebuild damaged files


def save(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a file, which appears when it is complete, and its checksum; the newest one stays."""
    bucket.replace(path, write)
    _add_sums(path)


def save_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as the files of a folder, which appears when it is complete, with checksums.

    In an existing folder the files are replaced one by one, so that readers always find one: all
    writers of a folder write the same content.
    """
    part = folder.with_name(f"{folder.name}{bucket.PART}{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    try:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
        _add_sums(part)
        for file in (*part.iterdir(), part):
            bucket.flush(file)
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        for file in list(part.glob("*")):
            file.replace(folder / file.name)
        bucket.flush(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    bucket.flush(folder.parent)


def damage(path: Path) -> str | None:
    """Says how a file or folder differs from what was written: "" if it does not; None if it has
    no checksums."""
    sums = _sums(path)
    try:
        expected = dict(json.loads(sums.read_text(encoding="utf-8")))
        for name, sum_ in expected.items():
            file = sums.with_name(name)
            if not file.is_file():
                return f"{name} is gone"
            size, crc = _sum(file)
            if size != sum_[0]:
                return f"{name} has {size:,} bytes of {sum_[0]:,}"
            if crc != sum_[1]:
                return f"{name} has another checksum"
    except FileNotFoundError:
        return None
    except OSError as error:
        return str(error.strerror)
    except (ValueError, TypeError, LookupError):
        return f"{sums.name} cannot be read"
    return "" if expected else f"{sums.name} is empty"


def mend(path: Path, make: Callable[[], None], fault: Callable[[], str]) -> None:
    """Makes a damaged file or folder again, with a message on stderr.

    One without checksums (from an earlier version) gets them if `fault` finds nothing. Of several
    processes the first makes it again; the others wait for it, then make it themselves.

    Args:
        fault: says what is wrong with the content; "" for nothing.

    Raises UserError if it cannot be made again.
    """
    known, reason = _inspect(path, fault)
    if not reason:
        if not known:
            with contextlib.suppress(OSError):  # a read-only store
                _add_sums(path)
        return
    end = time.monotonic() + WAIT
    while not processes.first() and time.monotonic() < end:
        time.sleep(0.5)
        if not _inspect(path, fault)[1]:
            return
    print(f"{path} is damaged ({reason}) and is made again", file=sys.stderr, flush=True)
    try:
        make()
    except OSError as error:
        raise UserError(
            f"{path} is damaged ({reason}) and cannot be made again: {error.strerror}"
        ) from error
    if reason := _inspect(path, fault)[1]:
        raise UserError(f"{path} was made again and is damaged again ({reason}); check its disk")


def _inspect(path: Path, fault: Callable[[], str]) -> tuple[bool, str]:
    """Returns whether there are checksums, and what is wrong ("" for nothing)."""
    reason = damage(path) if path.exists() else "it is gone"
    if reason:
        return True, reason
    try:
        return reason is not None, fault()
    except Exception as error:  # numpy and json raise anything on damaged bytes
        return reason is not None, f"it cannot be read: {error}".splitlines()[0]


def _sums(path: Path) -> Path:
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.sum")


def _add_sums(path: Path) -> None:
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    sums = json.dumps({file.name: _sum(file) for file in files})
    bucket.replace(_sums(path), lambda part: part.write_text(sums, encoding="utf-8"))


def _sum(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, _crc32(file, stat.st_size, stat.st_mtime_ns)]


@functools.cache
def _crc32(file: Path, size: int, changed: int) -> int:
    """Computed once per process, unless the file's size or time changes."""
    crc = 0
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc

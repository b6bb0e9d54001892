"""Keeps compiled programs between starts, so that a program compiles once for a machine."""

import contextlib
import hashlib
import os
import platform
import stat
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
FOLDER = Path(".cache", "jax")
LIMIT = 2 * 2**30  # bytes


def use() -> None:
    """Sets jax's cache to a folder below the working directory, unless the environment names one.

    jax creates the folder when it stores the first program. An empty variable switches the cache
    off. jax's own limit is not used: once one entry lacks its access time (written without a limit,
    or just before a kill), jax stores no further ones.
    """
    if VARIABLE in os.environ:
        return
    folder = (FOLDER / _processor()).absolute()
    present = next(place for place in (folder, *folder.parents) if place.exists())
    if present.is_dir() and os.access(present, os.W_OK):
        shrink(folder.parent, LIMIT)
        os.environ[VARIABLE] = str(folder)


def shrink(folder: Path, limit: int) -> None:
    """Removes files that were not read for the longest time, until `limit` bytes are left."""
    files = []
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another start removes files too
            status = file.stat()
            if stat.S_ISREG(status.st_mode):
                files.append((max(status.st_atime, status.st_mtime), status.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= limit:
            break
        file.unlink(missing_ok=True)
        total -= size


def _processor() -> str:
    """Returns a name for the instructions of this CPU: jax's key of a program does not have them,
    and machines of a cluster that share a folder may differ.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return hashlib.sha256(features.encode()).hexdigest()[:12]

"""Paths on disk or on a bucket (gs://…), through etils."""

import importlib.util
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import fsspec.config
from etils import epath

from research.errors import UserError

PART = ".part-"  # in the name of a file that is being written


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL such as gs://BUCKET/FOLDER."""
    return "://" in os.fspath(path)


def path(text: str | os.PathLike[str]) -> epath.Path:
    """Returns a path on disk, left relative if it is, or on a bucket.

    Raises UserError if the package for the bucket is not installed.
    """
    if os.fspath(text).startswith("gs://"):
        if importlib.util.find_spec("gcsfs") is None:
            raise UserError(
                f"{os.fspath(text)}: buckets need the package gcsfs: python -m pip install gcsfs"
            )
        # A cached listing shows deleted checkpoints, and hides those written by other machines.
        fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return epath.Path(text)


def write_whole(file: epath.Path, content: str | bytes) -> None:
    """Writes a file atomically and waits for the disk: a process or machine that dies meanwhile
    leaves the old file, or none. (A bucket shows only complete objects.)"""
    data = content.encode("utf-8") if isinstance(content, str) else content
    if is_remote(file):
        file.write_bytes(data)
        return
    replace(file, lambda part: part.write_bytes(data))


def replace(file: Path, write: Callable[[Path], object]) -> None:
    """Replaces a file on disk atomically by what `write` writes to a path, flushed; if `write`
    fails, the old file stays and nothing else does."""
    part = file.with_name(f"{uuid.uuid4().hex}{PART}{file.name}")
    try:
        write(part)
        flush(part)
        part.replace(file)
        flush(file.parent)
    finally:
        part.unlink(missing_ok=True)


def require_writable(place: epath.Path) -> None:
    """Raises UserError, with the reason, if the folder `place`, or its nearest existing parent, is
    not writable. The probe file is removed."""
    folder = place
    while not folder.exists() and folder.parent != folder and not is_remote(place):
        folder = folder.parent
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        try:
            write_whole(probe, b"0" * 4096)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {place}: {error.strerror or error}") from error


def flush(place: str | os.PathLike[str]) -> None:
    """Waits until a file, or the list of names in a folder, is on disk."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

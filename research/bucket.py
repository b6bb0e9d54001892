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

PART = ".part-"  # in the name of what is being written


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL such as gs://BUCKET/FOLDER."""
    return "://" in os.fspath(path)


def path(text: str | os.PathLike[str]) -> epath.Path:
    """A path on disk, relative ones as they are, or on a bucket.

    Raises UserError where the package that reaches the bucket is missing.
    """
    if os.fspath(text).startswith("gs://"):
        if importlib.util.find_spec("gcsfs") is None:
            raise UserError(
                f"{os.fspath(text)}: buckets need the package gcsfs: python -m pip install gcsfs"
            )
        # A remembered listing shows checkpoints that are gone, and not those of other machines.
        fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return epath.Path(text)


def write_whole(file: epath.Path, content: str | bytes) -> None:
    """Writes a file and waits for the disk: a process or machine that dies meanwhile leaves the old
    one, or none. (An object on a bucket is there when all of it is.)"""
    data = content.encode("utf-8") if isinstance(content, str) else content
    if is_remote(file):
        file.write_bytes(data)
        return
    replace(file, lambda part: part.write_bytes(data))


def replace(file: Path, write: Callable[[Path], object]) -> None:
    """Puts what `write` writes at a path on disk in place of a file, whole and flushed; nothing
    stays of it if it fails."""
    part = file.with_name(f"{uuid.uuid4().hex}{PART}{file.name}")
    try:
        write(part)
        flush(part)
        part.replace(file)
        flush(file.parent)
    finally:
        part.unlink(missing_ok=True)


def require_writable(place: epath.Path) -> None:
    """Raises UserError, with the reason, where nothing can be written into the folder `place`, or
    into the nearest one above it that exists. What is tried is removed."""
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
    """Waits until the disk has a file, or the names in a folder."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

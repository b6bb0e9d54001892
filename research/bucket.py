"""Paths on disk or on a bucket (gs://…), through etils."""

import importlib.util
import os

import fsspec
import fsspec.config
from etils import epath

from research.errors import UserError


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


def write_text(file: epath.Path, text: str) -> None:
    """Writes a whole file: whoever is killed meanwhile leaves the old one, or none. (An object on a
    bucket is there when all of it is.)"""
    if is_remote(file):
        file.write_text(text)
        return
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)

"""Finds the shipped config files and checkpoints, whatever the current folder is."""

import functools
import os
import sys
from pathlib import Path

import research
from research import bucket

ROOT = Path(research.__file__).parents[1]  # the folder of launch.py
CHECKPOINTS = Path(research.__file__).parent / "pretrained"


def beside(path: str) -> str:
    """Returns `path`, or, with a note on stderr, its copy beside launch.py if only that exists."""
    if bucket.is_remote(path) or not path or os.path.exists(path):
        return path
    copy = ROOT / path  # an absolute path stays itself
    if not copy.exists():
        return path
    tell(f"{path} is not in this folder; it is taken from {ROOT}")
    return str(copy)


def checkpoint(path: str) -> str:
    """Returns the folder of a shipped checkpoint for its name, "bert" or "gpt"; else `beside`."""
    if path in names() and not os.path.exists(path):
        return str(CHECKPOINTS / path)
    return beside(path)


def names() -> list[str]:
    """The names of the shipped checkpoints."""
    return sorted(entry.name for entry in CHECKPOINTS.iterdir() if entry.is_dir())


@functools.cache
def tell(line: str) -> None:
    """Prints a line on stderr, once per process."""
    print(line, file=sys.stderr, flush=True)

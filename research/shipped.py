"""What comes with the project, from whichever folder it is used: config files and checkpoints."""

import functools
import os
import sys
from pathlib import Path

import research
from research import bucket

ROOT = Path(research.__file__).parents[1]  # the folder of launch.py
CHECKPOINTS = Path(research.__file__).parent / "pretrained"


def beside(path: str) -> str:
    """`path`, or the same path from the folder of launch.py where only that one is there (told)."""
    if bucket.is_remote(path) or not path or os.path.exists(path):
        return path
    there = ROOT / path  # of an absolute path itself
    if not there.exists():
        return path
    tell(f"{path} is not in this folder; it is taken from {ROOT}")
    return str(there)


def checkpoint(path: str) -> str:
    """As `beside`, and for the name of a checkpoint that ships its folder: "bert", "gpt"."""
    if path in names() and not os.path.exists(path):
        return str(CHECKPOINTS / path)
    return beside(path)


def names() -> list[str]:
    """The checkpoints that ship."""
    return sorted(entry.name for entry in CHECKPOINTS.iterdir() if entry.is_dir())


@functools.cache
def tell(line: str) -> None:
    """Says on standard error, once, what was taken instead."""
    print(line, file=sys.stderr, flush=True)

"""What is to be known of each start of a run to make it again: command, code, versions, machine.

starts.jsonl in the workdir has one line for each start; config.json has the resolved config.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from etils import epath

import research

FILE = "starts.jsonl"
PACKAGES = (
    *("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers"),
    *("tensorflow-datasets", "ml-collections"),
)
LONGEST_DIFF = 1 << 20  # characters; of more the beginning is kept


def describe(data_key: str) -> dict[str, Any]:
    """This start, as JSON values. commit and diff are None outside of a git checkout."""
    diff = _git("diff", "HEAD")
    device = jax.devices()[0]
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": commit(),
        "diff": diff[:LONGEST_DIFF] if diff is not None else None,
        "versions": versions(),
        "devices": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "data": data_key,
    }


def commit() -> str | None:
    """The commit that is checked out; None outside of a git checkout."""
    found = _git("rev-parse", "HEAD")
    return found.strip() if found else None


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def add(folder: epath.Path, start: dict[str, Any]) -> None:
    """Appends a start to the file in a workdir, which may be on a bucket."""
    before = (folder / FILE).read_text() if (folder / FILE).exists() else ""
    (folder / FILE).write_text(before + json.dumps(start) + "\n")


def read(folder: epath.Path | Path) -> list[dict[str, Any]]:
    """All starts of a run; none where the file is not there."""
    if not (folder / FILE).exists():
        return []
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


def _git(*arguments: str) -> str | None:
    root = Path(research.__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None

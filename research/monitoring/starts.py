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
from research import bucket
from research.monitoring.writers import lines

FILE = "starts.jsonl"
CONFIG = "config.json"  # the resolved config, beside it
PACKAGES = (
    *("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers"),
    *("tensorflow-datasets", "ml-collections"),
)
CODE = ("research/*.py", "configs/*.py", "launch.py")
LONGEST_DIFF = 1 << 20  # characters; of more the beginning is kept


def describe(data_key: str, init_from: str) -> dict[str, Any]:
    """This start, as JSON values. commit and diff are None outside of a git checkout.

    Args:
        data_key, init_from: fingerprints of the data and of the checkpoint it starts from, "" for
            new weights.
    """
    diff = _diff()
    device = jax.devices()[0]
    return {
        "command": [*_program(), *sys.argv[1:]],
        "commit": commit(),
        "diff": diff[:LONGEST_DIFF] if diff is not None else None,
        "untracked": (_git("ls-files", "--others", "--exclude-standard") or "").splitlines(),
        "versions": versions(),
        "devices": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "machine": {"system": platform.platform(), "cores": _cores()},
        "data": data_key,
        "init_from": init_from,
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
    line = json.dumps(start) + "\n"
    if bucket.is_remote(folder):  # where nothing can be appended
        before = (folder / FILE).read_text() if (folder / FILE).exists() else ""
        (folder / FILE).write_text(before + line)
        return
    with open(folder / FILE, "a", encoding="utf-8") as file:
        file.write(line)


def read(folder: epath.Path | Path) -> list[dict[str, Any]]:
    """All starts of a run, but for a line that was cut off by a kill; none without the file.

    Raises UserError for one that is damaged.
    """
    return lines(folder / FILE)


def _cores() -> int:
    """Those that the process may use: their number decides the order of some sums."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _program() -> list[str]:
    """What stands between `python` and the arguments."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [Path(sys.argv[0]).name] if spec is None else ["-m", spec.name]


def _diff() -> str | None:
    """Uncommitted changes, new files of code among them."""
    changed = _git("diff", "HEAD")
    if changed is None:
        return None
    added = (_git("ls-files", "--others", "--exclude-standard", "--", *CODE) or "").splitlines()
    texts = [_git("diff", "--no-index", "--", os.devnull, name, differ=True) for name in added]
    return changed + "".join(filter(None, texts))


def _git(*arguments: str, differ: bool = False) -> str | None:
    """What git prints; None where it fails. differ: exit code 1 only says that files do."""
    root = Path(research.__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode in ((0, 1) if differ else (0,)) else None

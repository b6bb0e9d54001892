"""Records what it takes to reproduce each start of a run: command, code, versions, machine.

starts.jsonl in the workdir has one line for each start; config.json has the resolved config.
"""

import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from research import bucket, shipped
from research.errors import UserError, nearest
from research.monitoring.writers import drop_unfinished_line, lines

FILE = "starts.jsonl"
CONFIG = "config.json"  # the resolved config, beside it
PACKAGES = (
    *("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers"),
    *("tensorflow-datasets", "ml-collections"),
)
CODE = ("research/*.py", "configs/*.py", "launch.py")
SENT = "COMMIT"  # file beside research/ in code that a launcher sent: its commit
TYPED = "RESEARCH_COMMAND"  # environment variable of child processes: the command that was typed
NOTED = (  # keys of every start, even of older versions
    *("command", "commit", "diff", "versions.jax", "data"),
    *("devices.platform", "devices.kind", "devices.count", "machine.system", "machine.cores"),
)
# Flags whose names end in these words hold secrets ("tokens" does not: it is a count), and so does
# the part of a URL before its @.
SECRET = re.compile(
    r"(?i)(^|[._-])(secret|password|passwd|pwd|credentials?|token|(api_?|access_?)?key)$"
)
PASSED = re.compile(r"(?<=://)[^/@\s]+(?=@)")
MASK = "***"
LONGEST_DIFF = 1 << 20  # characters; a longer diff is truncated


def describe(data_key: str, init_from: str) -> dict[str, Any]:
    """Describes this start as JSON values. commit and diff are None if the commit is unknown.

    Args:
        data_key, init_from: fingerprints of the data and of the checkpoint to start from, "" for
            new weights.
    """
    diff, untracked = _changes()
    device = jax.devices()[0]
    return {
        "command": command(),
        "commit": commit(),
        "diff": diff[:LONGEST_DIFF] if diff is not None else None,
        "untracked": untracked,
        "versions": versions(),
        "devices": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "machine": {"system": platform.platform(), "cores": _cores(), "cpu": _cpu()},
        "data": data_key,
        "init_from": init_from,
    }


def commit() -> str | None:
    """Returns the commit of the code, as a launcher sent it or as checked out; None if unknown."""
    text = _sent() or _git("rev-parse", "HEAD")
    return text.strip() if text else None


def command() -> list[str]:
    """Returns the command that the user typed, also in a process that this command has started."""
    if typed := os.environ.get(TYPED):
        return masked(shlex.split(typed))
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [Path(sys.argv[0]).name] if spec is None else ["-m", spec.name]
    return masked(["python", *program, *sys.argv[1:]])


def masked(arguments: Sequence[str]) -> list[str]:
    """Masks the secrets of a command line: the values of SECRET flags, and credentials in URLs."""
    words: list[str] = []
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if name.startswith("-") and SECRET.search(name):
            argument = f"{name}={MASK}" if equals else argument
        elif words and words[-1].startswith("-") and SECRET.search(words[-1]):
            argument = MASK  # its value is a word of its own
        words.append(PASSED.sub(MASK, argument))
    return words


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect a run's results."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def add(folder: epath.Path, start: dict[str, Any]) -> None:
    """Appends a start to the file in a workdir, which may be on a bucket."""
    line = json.dumps(start) + "\n"
    if bucket.is_remote(folder):  # objects on a bucket cannot be appended to
        before = (folder / FILE).read_text() if (folder / FILE).exists() else ""
        bucket.write_whole(folder / FILE, before + line)
        return
    drop_unfinished_line(folder / FILE)
    with open(folder / FILE, "a", encoding="utf-8") as file:
        file.write(line)


def read(
    folder: epath.Path | Path, keys: Sequence[str] = (), strict: bool = False
) -> list[dict[str, Any]]:
    """Reads all starts of a run, except a line that a kill cut off; none without the file.

    Args:
        keys: keys that each start must have besides `NOTED`; older runs may lack them.
        strict: raise UserError for a start that is damaged or lacks a key; default: skip it.
    """
    return lines(folder / FILE, (*NOTED, *keys), strict)


def no_run(folder: epath.Path | Path) -> UserError:
    """Returns the error for a folder without a config; it names runs in or beside the folder."""
    within, beside = _runs_in(folder), _runs_in(folder.parent)
    more = f"; its folders {within[0]}, … are" if within else ""
    more = more or (nearest(str(folder), beside) if beside else "")
    return UserError(f"{folder} is not a run's folder: it has no {CONFIG}{more}")


def _runs_in(folder: epath.Path | Path) -> list[str]:
    return [str(p.parent) for p in folder.glob(f"*/{CONFIG}")] if folder.is_dir() else []


def _cores() -> int:
    """Returns the number of usable cores, which decides the order of some sums."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """Returns the processor's model, "" if unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor()


def _sent() -> str | None:
    """Returns the commit that a launcher sent the code with; None in a checkout."""
    file = shipped.ROOT / SENT
    return file.read_text() if file.exists() else None


def _changes() -> tuple[str | None, list[str]]:
    """Returns (uncommitted changes including new code files, untracked files); none for sent
    code."""
    if _sent():
        return "", []
    unknown = ("ls-files", "--others", "--exclude-standard")
    changed, untracked = _git("diff", "HEAD"), (_git(*unknown) or "").splitlines()
    if changed is None:
        return None, untracked
    added = (_git(*unknown, "--", *CODE) or "").splitlines()
    texts = [_git("diff", "--no-index", "--", os.devnull, name, differ=True) for name in added]
    return changed + "".join(filter(None, texts)), untracked


def _git(*arguments: str, differ: bool = False) -> str | None:
    """Returns git's output; None if it fails. differ: exit code 1 is no failure: files differ."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=shipped.ROOT,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode in ((0, 1) if differ else (0,)) else None

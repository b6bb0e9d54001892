"""What is to be known of each start of a run to make it again: command, code, versions, machine.

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
SENT = "COMMIT"  # beside research/, where code was sent as of a commit: which one
TYPED = "RESEARCH_COMMAND"  # in the environment of a process that a command starts: that command
NOTED = (  # of each start, whenever it was
    *("command", "commit", "diff", "versions.jax", "data"),
    *("devices.platform", "devices.kind", "devices.count", "machine.system", "machine.cores"),
)
# Flags whose names end in these words are secrets (but tokens, which are counted, are not), and so
# is what stands before the @ of a URL.
SECRET = re.compile(
    r"(?i)(^|[._-])(secret|password|passwd|pwd|credentials?|token|(api_?|access_?)?key)$"
)
PASSED = re.compile(r"(?<=://)[^/@\s]+(?=@)")
MASK = "***"
LONGEST_DIFF = 1 << 20  # characters; of more the beginning is kept


def describe(data_key: str, init_from: str) -> dict[str, Any]:
    """This start, as JSON values. commit and diff are None where the code is of no known commit.

    Args:
        data_key, init_from: fingerprints of the data and of the checkpoint it starts from, "" for
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
    """The commit that the code was sent as of, or that is checked out; None where neither is."""
    text = _sent() or _git("rev-parse", "HEAD")
    return text.strip() if text else None


def command() -> list[str]:
    """What was typed; of a process that another one has started, what was typed for that one."""
    if typed := os.environ.get(TYPED):
        return masked(shlex.split(typed))
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [Path(sys.argv[0]).name] if spec is None else ["-m", spec.name]
    return masked(["python", *program, *sys.argv[1:]])


def masked(arguments: Sequence[str]) -> list[str]:
    """A command line without its secrets: values of flags that are named so, and in URLs."""
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
    """Of Python and of the packages that decide what a run computes."""
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
    if bucket.is_remote(folder):  # where nothing can be appended
        before = (folder / FILE).read_text() if (folder / FILE).exists() else ""
        bucket.write_whole(folder / FILE, before + line)
        return
    drop_unfinished_line(folder / FILE)
    with open(folder / FILE, "a", encoding="utf-8") as file:
        file.write(line)


def read(
    folder: epath.Path | Path, keys: Sequence[str] = (), strict: bool = False
) -> list[dict[str, Any]]:
    """All starts of a run, but for a line that was cut off by a kill; none without the file.

    Args:
        keys: what is needed of each beside `NOTED`; runs of before it was noted lack it.
        strict: raise UserError for one that is damaged or lacks a key, which is else left out.
    """
    return lines(folder / FILE, (*NOTED, *keys), strict)


def no_run(folder: epath.Path | Path) -> UserError:
    """What is said of a folder without a config: which ones in it, or beside it, are runs."""
    within, beside = _runs_in(folder), _runs_in(folder.parent)
    more = f"; its folders {within[0]}, … are" if within else ""
    more = more or (nearest(str(folder), beside) if beside else "")
    return UserError(f"{folder} is not a run's folder: it has no {CONFIG}{more}")


def _runs_in(folder: epath.Path | Path) -> list[str]:
    return [str(p.parent) for p in folder.glob(f"*/{CONFIG}")] if folder.is_dir() else []


def _cores() -> int:
    """Those that the process may use: their number decides the order of some sums."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """The model of the processor, empty where the system does not tell it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor()


def _sent() -> str | None:
    """The commit that the code was sent as of, by a launcher; None in a checkout."""
    file = shipped.ROOT / SENT
    return file.read_text() if file.exists() else None


def _changes() -> tuple[str | None, list[str]]:
    """(uncommitted changes, new files of code among them; files that git does not know). What was
    sent has none."""
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
    """What git prints; None where it fails. differ: exit code 1 only says that files do."""
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

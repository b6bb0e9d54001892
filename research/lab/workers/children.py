"""Starts, logs and stops the child processes of runs."""

import ctypes
import dataclasses
import getpass
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import research
from research import bucket
from research.errors import DIVERGED
from research.lab.workers import lanes as sharing
from research.monitoring import starts

PROGRAM = (sys.executable, "-m", "research.lab.workers.job")  # the kind of child follows
LOG = "log.txt"
SHOWN_LINES = 10  # last lines to show of a failed run's log


@dataclasses.dataclass
class Child:
    """The process of a run, and its start in monotonic seconds."""

    workdir: Path
    process: subprocess.Popen
    since: float

    @property
    def name(self) -> str:
        return self.workdir.name


def begin(program: Sequence[str], workdir: Path, lane: int, lanes: int, devices: int) -> Child:
    """Starts a run in its workdir, on its lane's part of the machine.

    Args:
        program: the command; the lane's cores become its last argument (see `as_child`).
        devices: number of accelerator devices; 0: all.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    root = str(Path(research.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, starts.TYPED: shlex.join(starts.command())}
    with open(_log(workdir), "a", encoding="utf-8") as log:
        print("starting", file=log, flush=True)  # separates this start from the last one
        # Runs that share all cores wait for each other. The number of cores affects the last digits
        # of a run's results, so each lane keeps its own cores, whatever runs beside it.
        process = subprocess.Popen(
            [*program, sharing.own_cores(lane, lanes)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | own | sharing.environment(lane, lanes, devices),
            start_new_session=True,  # so Ctrl-C reaches it only once, through this process
        )
    return Child(workdir, process, time.monotonic())


def as_child(cores: str) -> None:
    """Sets up a run's own process: restricts it to these cores (comma-separated numbers, "" for
    all), and ends it when its parent is killed and can no longer stop it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
        if cores:
            os.sched_setaffinity(0, map(int, cores.split(",")))


def failed(child: Child, code: int, say: Callable[[str], None]) -> None:
    """Reports a failed run, with the end of its log."""
    what = "DIVERGED" if code == DIVERGED else "FAILED"
    say(f"{child.name}: {what}, exit code {code}; the end of {child.workdir / LOG}:")
    for line in last_lines(child.workdir, SHOWN_LINES):
        say(f"    {line}")


def stop(children: Sequence[Child], say: Callable[[str], None]) -> None:
    """Lets every run save its checkpoint and end; another Ctrl-C kills them at once."""
    for child in children:
        child.process.send_signal(signal.SIGINT)
    try:
        for child in children:
            child.process.wait()
    except KeyboardInterrupt:
        for child in children:
            child.process.kill()
    for child in children:
        upload_log(child.workdir)
        last = " ".join(last_lines(child.workdir, 1))
        # Python's last line if the run had nothing to save yet.
        say(f"{child.name}: {'interrupted' if last.startswith('KeyboardInterrupt') else last}")


def _log(workdir: Path) -> Path:
    """Returns a run's log file: in its workdir, or a temporary file if that is on a bucket."""
    if not bucket.is_remote(workdir):
        return Path(workdir / LOG)
    key = hashlib.sha256(f"{getpass.getuser()} {workdir}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"{workdir.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / LOG


def upload_log(workdir: Path) -> None:
    """Copies a run's log into its workdir, if that is on a bucket."""
    if bucket.is_remote(workdir):
        (workdir / LOG).write_bytes(_log(workdir).read_bytes())


def last_lines(workdir: Path, count: int) -> list[str]:
    """Returns the last `count` non-empty lines of a run's log."""
    try:
        with open(_log(workdir), "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - 8192))
            text = log.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]

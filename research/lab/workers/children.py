"""Processes of their own for runs: how they begin, what they print, and how they are stopped."""

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

PROGRAM = (sys.executable, "-m", "research.lab.workers.job")  # before what kind of child it is
LOG = "log.txt"
SHOWN_LINES = 10  # of the log of a run that failed


@dataclasses.dataclass
class Child:
    """The process of a run, and when it began (monotonic seconds)."""

    workdir: Path
    process: subprocess.Popen
    since: float

    @property
    def name(self) -> str:
        return self.workdir.name


def begin(program: Sequence[str], workdir: Path, lane: int, lanes: int, devices: int) -> Child:
    """Starts a run in its folder, with its lane's part of the machine.

    Args:
        program: the command; the lane's cores are its last argument (see `as_child`).
        devices: of an accelerator; 0: all.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    root = str(Path(research.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, starts.TYPED: shlex.join(starts.command())}
    with open(_log(workdir), "a", encoding="utf-8") as log:
        print("starting", file=log, flush=True)  # what stood last was of another start
        # Runs that share all cores wait for each other; the number that a run has is part of what
        # it computes, to the last digit, so it does not depend on what runs beside it.
        process = subprocess.Popen(
            [*program, sharing.own_cores(lane, lanes)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | own | sharing.environment(lane, lanes, devices),
            start_new_session=True,  # Ctrl-C reaches it once, through this process
        )
    return Child(workdir, process, time.monotonic())


def as_child(cores: str) -> None:
    """In the process of a run: it has these cores (numbers with commas, empty: all), and ends when
    the one that began it is killed and cannot stop it any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
        if cores:
            os.sched_setaffinity(0, map(int, cores.split(",")))


def failed(child: Child, code: int, say: Callable[[str], None]) -> None:
    """Tells that a run has failed, with the end of its log."""
    what = "DIVERGED" if code == DIVERGED else "FAILED"
    say(f"{child.name}: {what}, exit code {code}; the end of {child.workdir / LOG}:")
    for line in last_lines(child.workdir, SHOWN_LINES):
        say(f"    {line}")


def stop(children: Sequence[Child], say: Callable[[str], None]) -> None:
    """Lets every run save its checkpoint and end; a Ctrl-C meanwhile does not wait for that."""
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
        # What Python says where nothing had begun that could be saved.
        say(f"{child.name}: {'interrupted' if last.startswith('KeyboardInterrupt') else last}")


def _log(workdir: Path) -> Path:
    """What a run prints to: a file in its workdir, or for one on a bucket a temporary one."""
    if not bucket.is_remote(workdir):
        return Path(workdir / LOG)
    key = hashlib.sha256(f"{getpass.getuser()} {workdir}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"{workdir.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / LOG


def upload_log(workdir: Path) -> None:
    """Copies the log of a run on a bucket into its workdir."""
    if bucket.is_remote(workdir):
        (workdir / LOG).write_bytes(_log(workdir).read_bytes())


def last_lines(workdir: Path, count: int) -> list[str]:
    """The last lines of a run's log that are not empty."""
    try:
        with open(_log(workdir), "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - 8192))
            text = log.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]

"""Finds and calls the programs that a launcher needs."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence

from research.errors import UserError


def require(program: str, install: str) -> None:
    """Raises UserError, with the command that installs it, if a program is not on PATH."""
    if shutil.which(program) is None:
        raise UserError(f"the program {program!r} is not on PATH; {install}")


def call(command: Sequence[str]) -> int:
    """Prints and runs a command, whose output goes to ours; returns its exit code."""
    print(f"$ {shlex.join(command)}", flush=True)
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


def answer(command: Sequence[str]) -> str | None:
    """Returns the output of a command, None if it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return None if done.returncode else done.stdout.strip()

"""One command at a time in a workdir of several runs."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from research import bucket
from research.errors import UserError

FILE = "command.lock"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes the folder. Raises UserError where another process of this machine makes runs in it;
    a folder on a bucket cannot be locked."""
    folder.mkdir(parents=True, exist_ok=True)
    if bucket.is_remote(folder):
        yield
        return
    with open(folder / FILE, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another command is at work in {folder}; wait for it, or give another --workdir"
            ) from error
        yield

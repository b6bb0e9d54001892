"""Lets one process at a time work in a folder, on this machine or on any that shares the folder.

A lock file in the folder names the process that works in it. Whatever ends the work removes the
file, except SIGKILL. A stale file is recognised: on the same machine because its process is gone,
from another machine because its text, which a live process changes every few seconds, stays.

On a disk, creating the file is atomic. On a bucket it is not: there the writer reads the file again
after a pause, so that of two processes that start in the same second, at least one gives way.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from research import bucket
from research.errors import UserError
from research.sharding import peers

TRAINING, COMMAND = "train.lock", "command.lock"  # of one run, and of a folder of several
BEAT = 10  # seconds between two changes of the text
STALE = 45  # seconds without a change after which the writer counts as dead
PAUSE = 2  # seconds until the file is read again if two processes may have written it


@contextlib.contextmanager
def alone(folder: epath.Path | Path, name: str) -> Iterator[None]:
    """Creates the folder if needed and holds the lock file `name` in it. A folder created for it is
    removed again at the end if it is empty.

    Raises UserError if another process works in it, with its number, host and starting time.
    """
    places = () if bucket.is_remote(folder) else (folder, *folder.parents)
    missing = [place for place in places if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = _Lock(folder / name)
    peers.before_exit.append(lock.release)
    try:
        lock.take()
        yield
    finally:
        peers.before_exit.remove(lock.release)
        lock.release()
        with contextlib.suppress(OSError):  # something is in it
            for place in missing:
                os.rmdir(place)


class _Lock:
    """The lock file, between `take` and `release`."""

    def __init__(self, file: epath.Path | Path):
        self._file, self._token = file, secrets.token_hex(8)
        self._text = _me() | {"token": self._token}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)

    def take(self) -> None:
        """Takes the lock. Raises UserError if another process holds it."""
        doubtful = bucket.is_remote(self._file)
        while not self._create():
            stale = self._wait_until_stale()
            with _turn(self._file.parent):
                if self._read() == stale:  # no other process has taken it over since
                    self._file.unlink(missing_ok=True)
                    print(f"{self._file}: taken over from {_who(stale)}, dead", file=sys.stderr)
            doubtful = True
        if doubtful:
            time.sleep(PAUSE)
            other = self._read()
            if other.get("token") != self._token:
                raise self._refusal(other)
        self._thread.start()

    def release(self) -> None:
        """Removes the file if this process still holds it."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(BEAT)
        with contextlib.suppress(Exception):  # the next process recognises a stale file
            if self._read().get("token") == self._token:
                self._file.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Creates the file; False if it exists."""
        if bucket.is_remote(self._file):
            if self._file.exists():
                return False
            self._write(0)
            return True
        try:
            with open(self._file, "x", encoding="utf-8") as file:
                json.dump(self._text | {"beat": 0}, file)
        except FileExistsError:
            return False
        return True

    def _write(self, beat: int) -> None:
        bucket.write_whole(self._file, json.dumps(self._text | {"beat": beat}))

    def _read(self) -> dict[str, Any]:
        """The file's content; empty if there is no file, or one that is just being written."""
        try:
            return json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}

    def _wait_until_stale(self) -> dict[str, Any]:
        """Returns the file's content if its writer is dead. Raises UserError if it is alive."""
        first = self._read()
        if not self._file.exists():  # its writer has just ended
            return first
        if first.get("place") == self._text["place"]:
            if _started(first["pid"]) == first["started"]:
                raise self._refusal(first)
        else:
            print(f"{self._file}: is {_who(first)} still at work?", file=sys.stderr, flush=True)
            until = time.monotonic() + STALE
            while time.monotonic() < until and self._file.exists():
                time.sleep(min(1, STALE / 10))
                if self._read() != first:
                    raise self._refusal(self._read() or first)
        return first

    def _refusal(self, other: dict[str, Any]) -> UserError:
        return UserError(
            f"{self._file.parent}: {_who(other)} is at work in it; wait for it, stop it, or use "
            "another --workdir"
        )

    def _beat(self) -> None:
        beat = 0
        while not self._over.wait(BEAT):
            beat += 1
            with contextlib.suppress(Exception):  # the disk or the network may fail for a while
                other = self._read()
                if other and other.get("token") != self._token:
                    self._over.set()
                    print(f"error: {self._refusal(other)}", file=sys.stderr, flush=True)
                    os._exit(2)
                self._write(beat)


@contextlib.contextmanager
def _turn(folder: epath.Path | Path) -> Iterator[None]:
    """Admits one process at a time, on this machine and, if the disk supports it, on others."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):  # a bucket, another system
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _me() -> dict[str, Any]:
    """This process as the lock file names it; place: the machine or container, in which process
    numbers are unique."""
    host = socket.gethostname()
    place = [host]
    if os.path.exists("/proc/self/ns/pid"):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place += [boot, os.readlink("/proc/self/ns/pid")]
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    pid = os.getpid()
    return {"host": host, "pid": pid, "since": since, "place": place, "started": _started(pid)}


def _who(text: dict[str, Any]) -> str:
    pid, host, since = (text.get(key, "?") for key in ("pid", "host", "since"))
    return f"the process {pid} on host {host} (since {since})"


def _started(pid: int) -> str | None:
    """When the process was started, in the system's clock ticks; None if it does not run."""
    try:
        os.kill(pid, 0)
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    except PermissionError:  # another user's process
        return ""
    except ProcessLookupError:
        return None
    except FileNotFoundError:  # not Linux
        return ""
    state, *fields = rest.split()
    return None if state == "Z" else fields[18]  # Z: killed, but not yet reaped by its parent

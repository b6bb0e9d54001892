"""One process at a time at work in a folder, on this machine or on any that shares the folder.

The folder has a file that says who is at work in it. It is removed at the end, whatever ends the
work but SIGKILL. What is left then is recognised: on the same machine by its process, which is not
there; from another machine by its text, which the process at work changes every few seconds.

On a disk the file is created by one process alone. On a bucket it is not: there who has written it
reads it again after a pause, so that of two starts in the same second at least one gives way.
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
STALE = 45  # seconds without a change after which who wrote it counts as dead
PAUSE = 2  # seconds until what was written is read again where two may have written


@contextlib.contextmanager
def alone(folder: epath.Path | Path, name: str) -> Iterator[None]:
    """Makes the folder, and holds the file `name` in it. A folder that was made for it goes again
    if nothing else has come into it.

    Raises UserError naming host, process and since when, where another one is at work in it.
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
    """The file, from the time that it is taken until it is released."""

    def __init__(self, file: epath.Path | Path):
        self._file, self._token = file, secrets.token_hex(8)
        self._text = _me() | {"token": self._token}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)

    def take(self) -> None:
        """Raises UserError where another process has it."""
        doubtful = bucket.is_remote(self._file)
        while not self._create():
            stale = self._wait_until_stale()
            with _turn(self._file.parent):
                if self._read() == stale:  # nobody else has taken it over since
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
        """Removes the file if it is still ours."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(BEAT)
        with contextlib.suppress(Exception):  # the next one recognises that this process is gone
            if self._read().get("token") == self._token:
                self._file.unlink(missing_ok=True)

    def _create(self) -> bool:
        """False where there is one."""
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
        """Empty where there is none, or one that is just being written."""
        try:
            return json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}

    def _wait_until_stale(self) -> dict[str, Any]:
        """Returns what it says when who wrote it is dead. Raises UserError when it is not."""
        first = self._read()
        if not self._file.exists():  # it has just ended
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
            f"{self._file.parent}: {_who(other)} is at work in it; wait for it, stop it, or give "
            "another --workdir"
        )

    def _beat(self) -> None:
        beat = 0
        while not self._over.wait(BEAT):
            beat += 1
            with contextlib.suppress(Exception):  # a disk or a network that fails for a while
                other = self._read()
                if other and other.get("token") != self._token:
                    self._over.set()
                    print(f"error: {self._refusal(other)}", file=sys.stderr, flush=True)
                    os._exit(2)
                self._write(beat)


@contextlib.contextmanager
def _turn(folder: epath.Path | Path) -> Iterator[None]:
    """One process after the other on this machine, and on others where the disk can do that."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):  # a bucket, another system
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _me() -> dict[str, Any]:
    """place: a machine, or one container on it, where a number of a process means the same."""
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
    """When the process was started, as the system counts; None where there is none."""
    try:
        os.kill(pid, 0)
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")
    except PermissionError:  # another user's
        return ""
    except ProcessLookupError:
        return None
    except FileNotFoundError:  # no Linux
        return ""
    state, *fields = rest.split()
    return None if state == "Z" else fields[18]  # killed, but not yet fetched by its parent

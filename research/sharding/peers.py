"""Messages between the processes of a run: that one stops, hangs or has died.

A thread in each process sends heartbeats and reads the messages of the others, all through jax's
coordination service. When a process dies, the last line on stderr of every other one says which it
was, and why, below whatever jax prints when a connection breaks.

These heartbeats only name the dead process once something has broken; jax detects that one has
died, by heartbeats of its own that Python cannot delay.
"""

import atexit
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

SECONDS = 0.5  # between two looks
SILENT = 4  # seconds without a heartbeat after which a process is named as the dead one
PARTING = 10  # seconds that an ending process waits for the others to end as well
GOING = 8  # seconds after which the others end themselves when one has ended

BROKEN = ("Gloo", "NCCL", "UNAVAILABLE", "onnection")  # errors that another's death causes

before_exit: list[Callable[[], None]] = []  # called even if a process ends at once
_peers: "Peers | None" = None
_ending = 0


class Peers:
    """The words of the processes, as this one knows them.

    A word is a named message to all; the first one said under a name stays. "ended" says that a
    process ends without the others; "silent" lists the processes that process 0 does not hear.
    """

    def __init__(self, client: Any, process: int, count: int, coordinator: str):
        self.count = count
        self._client, self.process, self._coordinator = client, process, coordinator
        self.me = f"process {process}/{count} (host {socket.gethostname()}, pid {os.getpid()})"
        self._outbox: list[tuple[str, str]] = []
        self._words: dict[str, str] = {}
        self._calls: dict[str, Callable[[str], bool]] = {"ended": self._follow}
        self._heard: dict[str, tuple[str, float]] = {}  # process -> (last heartbeat, its time)
        self._ended_at = 0.0  # when this process heard that one has ended
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="peers", daemon=True)
        self._thread.start()
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)  # jax aborts in a thread of C++
        atexit.register(self._leave)

    def say(self, name: str, text: str) -> None:
        """Sends a word to all processes within a second; safe in a signal handler."""
        self._outbox.append((name, text))

    def listen(self, name: str, call: Callable[[str], bool]) -> None:
        """Calls `call` with the word of this name at each look after it was said, until `call`
        returns True. It runs in a thread and must not block."""
        self._calls[name] = call

    def numbers(self, name: str, value: int) -> list[int]:
        """Publishes a number of this process; returns the numbers published so far."""
        self._client.key_value_set(f"{name}/{self.process}", str(value), allow_overwrite=True)
        return [int(text) for _, text in self._client.key_value_dir_get(f"{name}/")]

    def wait_for_all(self) -> None:
        """Waits until all processes are about to end, at most PARTING seconds."""
        until = time.monotonic() + PARTING
        with contextlib.suppress(RuntimeError):  # the coordinator has gone
            while len(self.numbers("exit", 0)) < self.count and time.monotonic() < until:
                time.sleep(SECONDS / 5)

    def ends(self, code: int, reason: str) -> None:
        """Tells the others that this process ends without them, and why; they use its code."""
        with contextlib.suppress(RuntimeError):  # the coordinator has gone
            self._tell("ended", f"{code} {self.me} ended: {reason}")

    def _work(self) -> None:
        looks = 0
        while not self._over.wait(SECONDS):
            looks += 1
            with contextlib.suppress(RuntimeError):  # the coordinator has gone: jax ends us
                self._look(looks)

    def _look(self, looks: int) -> None:
        sign = json.dumps([self.me, looks])
        self._client.key_value_set(f"sign/{self.process}", sign, allow_overwrite=True)
        while self._outbox:
            self._tell(*self._outbox[0])
            self._outbox.pop(0)
        if self.process == 0 and looks % 2 == 0:
            self._note_silent()
        words = self._client.key_value_dir_get("word/")
        self._words = {key.removeprefix("word/"): text for key, text in words}
        for name, call in list(self._calls.items()):
            if name in self._words and call(self._words[name]):
                del self._calls[name]

    def _tell(self, name: str, text: str) -> None:
        try:
            self._client.key_value_set(f"word/{name}", text)
        except RuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise

    def _note_silent(self) -> None:
        now = time.monotonic()
        for key, sign in self._client.key_value_dir_get("sign/"):
            if self._heard.get(key, ("", 0.0))[0] != sign:
                self._heard[key] = sign, now
        silent = [sign for sign, since in self._heard.values() if now - since > SILENT]
        text = "; ".join(json.loads(sign)[0] for sign in silent)
        if text or self._words.get("silent"):
            self._client.key_value_set("word/silent", text, allow_overwrite=True)

    def _follow(self, word: str) -> bool:
        """Ends this process GOING seconds after another one has ended."""
        self._ended_at = self._ended_at or time.monotonic()
        if self.me not in word and time.monotonic() - self._ended_at > GOING:
            self.end(int(word.partition(" ")[0]))
        return False

    def _cause(self) -> str:
        """Says which process died, and why; "" if unknown."""
        ended = self._words.get("ended", "").partition(" ")[2]
        silent = self._words.get("silent", "")
        if not silent and not ended and not _answers(self._coordinator):
            silent = f"process 0/{self.count} (coordinator {self._coordinator})"
        if silent and (not ended or any(word in ended for word in BROKEN)):
            return (
                f"{silent} died without a word: killed (SIGKILL; out of memory), crashed in native "
                "code, or its host has gone"
            )
        return ended

    def end(self, code: int) -> None:
        """Ends this process at once; the last line says which one died, and why."""
        cause = self._cause() or "not all processes of this run have ended, and none says why"
        print(f"error: {cause}", file=sys.stderr, flush=True)
        exit_now(code)

    def _leave(self) -> None:
        """Waits for all processes to end normally; if they do not, ends this one, and so all."""
        try:
            self._client.wait_at_barrier("leave", PARTING * 1000)
        except RuntimeError:
            self.end(_ending or 1)
        self._over.set()
        self._thread.join()

    def _aborted(self, number: int) -> None:
        """Handles SIGABRT: from jax, because another process died, or from this process's code."""
        if not self._cause():
            self.ends(128 + number, "native code aborted it (SIGABRT); its message is above")
            self._words["ended"] = f"0 {self.me} ended: native code aborted it (SIGABRT)"
        self.end(1)


def start(client: Any, process: int, count: int, coordinator: str) -> None:
    """Starts the exchange of messages; from here on, the processes report how they end."""
    global _peers
    _peers = Peers(client, process, count, coordinator)


def ending(code: int, error: BaseException | None = None) -> None:
    """Notes the exit code of this process, which is about to end, and sends an error to all."""
    global _ending
    _ending = code
    if _peers is not None and error is not None:
        lines = str(error).strip().splitlines() or [""]
        _peers.ends(code, f"{type(error).__name__}: {lines[0]:.300}")


def exit_now(code: int, together: bool = False) -> None:
    """Ends this process, whatever its threads do. Nothing is printed after the last line.

    together: the others end in this way too; none ends before all know of it.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stderr__.fileno())
    cleaning = threading.Thread(target=_clean, daemon=True)
    cleaning.start()
    cleaning.join(PARTING)  # the disk itself may hang
    if _peers is not None and together:
        _peers.wait_for_all()
    if _peers is not None and _peers.process == 0:
        time.sleep(3 * SECONDS)  # the others still read their messages
    os._exit(code)


def _clean() -> None:
    sys.stdout.flush()
    for call in before_exit:
        call()


def get() -> Peers | None:
    """Returns the messages between processes; None in a run of one process."""
    return _peers


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True

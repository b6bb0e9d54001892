"""What the processes of a run tell each other beside the work: that one stops, hangs or has died.

A thread in each of them gives signs of life and reads the words of the others, all through jax's
coordination service. When one dies, the last line on stderr of each of the others says which one,
and why, below whatever jax prints when a connection breaks.

Signs of life only name who has died, once something has broken; that somebody has is found by jax,
whose own are not held up by Python.
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
SILENT = 4  # seconds without a sign of life: if somebody has died, then this one
PARTING = 10  # seconds that a process which ends gives the others to end as well
GOING = 8  # the same, of the others: after these they end themselves

BROKEN = ("Gloo", "NCCL", "UNAVAILABLE", "onnection")  # errors that another's death causes

before_exit: list[Callable[[], None]] = []  # what must be done even where a process ends at once
_peers: "Peers | None" = None
_ending = 0


class Peers:
    """The words of the processes, as this one knows them.

    There is one word of each name, the first that was said: "ended" (a process ends without the
    others), and what else `say` is asked to say; "silent" are those that process 0 does not hear.
    """

    def __init__(self, client: Any, process: int, count: int, coordinator: str):
        self.count = count
        self._client, self.process, self._coordinator = client, process, coordinator
        self.me = f"process {process}/{count} (host {socket.gethostname()}, pid {os.getpid()})"
        self._outbox: list[tuple[str, str]] = []
        self._words: dict[str, str] = {}
        self._calls: dict[str, Callable[[str], bool]] = {"ended": self._follow}
        self._heard: dict[str, tuple[str, float]] = {}  # by process: its last sign, and when
        self._told = 0.0  # when another one ended
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="peers", daemon=True)
        self._thread.start()
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)  # jax aborts in a thread of C++
        atexit.register(self._leave)

    def say(self, name: str, text: str) -> None:
        """Tells all, within a second; safe where a signal has interrupted anything."""
        self._outbox.append((name, text))

    def listen(self, name: str, call: Callable[[str], bool]) -> None:
        """Calls `call` with the word of this name, once it was said, at each look until it returns
        True. It runs in a thread, and must not wait."""
        self._calls[name] = call

    def numbers(self, name: str, value: int) -> list[int]:
        """Notes a number of this process; returns those of all that have noted one."""
        self._client.key_value_set(f"{name}/{self.process}", str(value), allow_overwrite=True)
        return [int(text) for _, text in self._client.key_value_dir_get(f"{name}/")]

    def wait_for_all(self) -> None:
        """Returns when all processes are about to end, or after PARTING seconds."""
        until = time.monotonic() + PARTING
        with contextlib.suppress(RuntimeError):  # the coordinator has gone
            while len(self.numbers("exit", 0)) < self.count and time.monotonic() < until:
                time.sleep(SECONDS / 5)

    def ends(self, code: int, reason: str) -> None:
        """Tells the others that this process ends without them, and why; they end with its code."""
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
        """Ends this process after one that has ended, if it does not end by itself."""
        self._told = self._told or time.monotonic()
        if self.me not in word and time.monotonic() - self._told > GOING:
            self.end(int(word.partition(" ")[0]))
        return False

    def _cause(self) -> str:
        """Which process died, and why; "" where nobody knows."""
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
        """Lets all end in their own way if they end now; if not, goes, which ends the others."""
        try:
            self._client.wait_at_barrier("leave", PARTING * 1000)
        except RuntimeError:
            self.end(_ending or 1)
        self._over.set()
        self._thread.join()

    def _aborted(self, number: int) -> None:
        """Native code has aborted: jax, because another process has died, or something of ours."""
        if not self._cause():
            self.ends(128 + number, "native code aborted it (SIGABRT); what it says stands above")
            self._words["ended"] = f"0 {self.me} ended: native code aborted it (SIGABRT)"
        self.end(1)


def start(client: Any, process: int, count: int, coordinator: str) -> None:
    """From here on this process and the others tell each other how they end."""
    global _peers
    _peers = Peers(client, process, count, coordinator)


def ending(code: int, error: BaseException | None = None) -> None:
    """Notes the exit code that this process is about to end with, and tells the others an error."""
    global _ending
    _ending = code
    if _peers is not None and error is not None:
        lines = str(error).strip().splitlines() or [""]
        _peers.ends(code, f"{type(error).__name__}: {lines[0]:.300}")


def exit_now(code: int, together: bool = False) -> None:
    """Ends this process, whatever its threads do. What was printed last stays the last.

    together: the others end in this way too; none goes before all have been told.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stderr__.fileno())
    cleaning = threading.Thread(target=_clean, daemon=True)
    cleaning.start()
    cleaning.join(PARTING)  # a disk may be what hangs
    if _peers is not None and together:
        _peers.wait_for_all()
    if _peers is not None and _peers.process == 0:
        time.sleep(3 * SECONDS)  # the others still read what they were told
    os._exit(code)


def _clean() -> None:
    sys.stdout.flush()
    for call in before_exit:
        call()


def get() -> Peers | None:
    """None in a run of one process."""
    return _peers


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True

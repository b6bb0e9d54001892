"""Ends a run whose step hangs, and prints the stacks of all threads of every process."""

import contextlib
import faulthandler
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

from research.errors import HUNG
from research.sharding import peers

STEPS = 100  # the limit follows the median of this many steps
SLOW = 6  # factor of the limit for the first step (it compiles), evaluations and saves
PAUSE = 5  # seconds that the process that detects a hang waits for the others' reports
WORD = "hung"


class Watchdog:
    """A thread that checks whether steps end.

    A step may take `factor` times the median of the steps before it, but at least `seconds` (0: no
    limit). If one takes longer, each process of the run writes the stacks of all its threads to
    stderr and exits with code 4. If a thread holds Python's global interpreter lock forever, its
    own process cannot detect the hang; the other processes do.
    """

    def __init__(self, seconds: float, factor: float):
        self._seconds, self._factor = seconds, factor
        self._times: deque[float] = deque(maxlen=STEPS)
        # The current activity, its start and its limit in seconds.
        self._now = ("the first step", time.monotonic(), SLOW * seconds)
        self._over, self._saying = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._work, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            self._thread.start()
            if others := peers.get():
                others.listen(WORD, self._end)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def ended(self, step: int) -> None:
        """Notes that `step` has ended and the next one begins."""
        doing, since, _ = self._now
        now = time.monotonic()
        if doing.startswith("step"):  # not the first step, which compiles
            self._times.append(now - since)
        median = statistics.median(self._times) if self._times else 0.0
        self._now = (f"step {step + 1:,}", now, max(self._seconds, self._factor * median))

    @contextlib.contextmanager
    def slow(self, what: str) -> Iterator[None]:
        """Allows SLOW times the limit for work between steps."""
        (doing, since, limit), begin = self._now, time.monotonic()
        self._now = (what, begin, SLOW * self._seconds)
        yield
        self._now = (doing, since + time.monotonic() - begin, limit)

    def _work(self) -> None:
        while not self._over.wait(min(1.0, self._seconds / 4)):
            (doing, since, limit), now = self._now, time.monotonic()
            if now - since > limit:
                word = f"{doing} has not ended in {now - since:.1f} s; the limit is {limit:.1f} s"
                if others := peers.get():
                    word = f"{others.me}: {word}"
                    others.say(WORD, word)
                    self._over.wait(PAUSE)  # the peers end all with the report that came first
                self._end(word)

    def _end(self, word: str) -> bool:
        if not self._over.is_set() and self._saying.acquire(blocking=False):
            print(f"\n{word}; the stacks of all threads here:", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            last = f"error: hung: {word} (config.train.watchdog_seconds); the stacks are above"
            print(last, file=sys.stderr, flush=True)
            peers.exit_now(HUNG, together=True)
        return True

"""Ends a run whose step does not end, and says where every thread of every process stands."""

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

STEPS = 100  # whose median is taken
SLOW = 6  # times as long: the first step, which is compiled, evaluations and saves
PAUSE = 5  # seconds for which who finds it waits for the words of the others
WORD = "hung"


class Watchdog:
    """A thread that looks whether steps end.

    A step may take `factor` times the median of those before it, and `seconds` at least (0: nobody
    looks). Where one takes longer, each process of the run writes the stacks of all its threads to
    stderr, and ends with code 4. A thread of Python that never lets go of the interpreter cannot
    be told from within; the other processes tell it.
    """

    def __init__(self, seconds: float, factor: float):
        self._seconds, self._factor = seconds, factor
        self._times: deque[float] = deque(maxlen=STEPS)
        # What is being done, since when, and how long it may take.
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
        """A step has ended, and the next one begins."""
        doing, since, _ = self._now
        now = time.monotonic()
        if doing.startswith("step"):  # not the first, which was compiled
            self._times.append(now - since)
        median = statistics.median(self._times) if self._times else 0.0
        self._now = (f"step {step + 1:,}", now, max(self._seconds, self._factor * median))

    @contextlib.contextmanager
    def slow(self, what: str) -> Iterator[None]:
        """Work beside the steps that takes longer."""
        (doing, since, limit), begin = self._now, time.monotonic()
        self._now = (what, begin, SLOW * self._seconds)
        yield
        self._now = (doing, since + time.monotonic() - begin, limit)

    def _work(self) -> None:
        while not self._over.wait(min(1.0, self._seconds / 4)):
            (doing, since, limit), now = self._now, time.monotonic()
            if now - since > limit:
                word = f"{doing} has not ended in {now - since:.1f} s; {limit:.1f} s are the limit"
                if others := peers.get():
                    word = f"{others.me}: {word}"
                    others.say(WORD, word)
                    self._over.wait(PAUSE)  # all are called with the word that was said first
                self._end(word)

    def _end(self, word: str) -> bool:
        if not self._over.is_set() and self._saying.acquire(blocking=False):
            print(f"\n{word}; the stacks of all threads here:", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            last = f"error: hung: {word} (config.train.watchdog_seconds); the stacks are above"
            print(last, file=sys.stderr, flush=True)
            peers.exit_now(HUNG, together=True)
        return True

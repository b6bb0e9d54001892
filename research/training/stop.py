"""How a run is stopped from outside: Ctrl-C, and SIGTERM."""

import itertools
import os
import signal
import threading
import time
from typing import Any

from research.sharding import peers, processes

SAME = 5  # seconds in which a further SIGTERM is the same notice: schedulers repeat it
PATIENCE = 60  # seconds until a process that the others do not answer goes on

_runs = itertools.count()


class Stopping(Exception):
    """The run was asked to stop, in the middle of an evaluation."""


class Stop:
    """Turns Ctrl-C and SIGTERM into what the loop asks for; a second one ends at once, and says
    which steps are lost.

    Of several processes all stop at the same place, whichever of them was asked. Each counts the
    places where it could stop, `reached`. When one is asked, all of them tell their counts, wait
    there until they know those of the others, and stop at the first place that none has passed.
    """

    def __init__(self, step: int):
        self.asked = False
        self.saved = self.done = step  # the last one that a checkpoint has, and that was made
        self._since = 0.0  # when it was asked
        self._peers = peers.get()
        self._word = f"stop{next(_runs)}"
        self._places, self._last = 0, -1  # asked at so far; where all stop, when they agree
        self._change = threading.Condition()
        self._agreeing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if self._peers is not None:
            self._peers.listen(self._word, self._agree)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.asked and (number == signal.SIGINT or now - self._since > SAME):
            last = f"that of step {self.saved:,}" if self.saved else "none"
            raise KeyboardInterrupt(
                f"{self.done - self.saved:,} steps are lost; the newest checkpoint is {last}"
            )
        if self.asked:
            return
        if processes.first():
            text = "stopping after this step, with a checkpoint; Ctrl-C again: without one"
            os.write(2, f"\n{text}\n".encode())  # print may be at work in what was interrupted
        self.asked, self._since = True, now
        if self._peers is not None:
            self._peers.say(self._word, signal.Signals(number).name)

    def _agree(self, _: str) -> bool:
        """Tells how far this process is; whether all have, so that it is known where they stop."""
        with self._change:
            self._agreeing = True
            told = self._peers.numbers(self._word, self._places)
            if len(told) < self._peers.count:
                return False
            self._last, self._agreeing = max(told) + 1, False
            self._change.notify()
        return True

    def reached(self) -> bool:
        """Whether the run stops here. All processes ask at the same places, in the same order."""
        if self._peers is None:
            return self.asked
        with self._change:
            self._change.wait_for(lambda: not self._agreeing, PATIENCE)
            self._places += 1
            return 0 < self._last <= self._places

    def check(self) -> None:
        """Raises Stopping where the run stops here."""
        if self.reached():
            raise Stopping

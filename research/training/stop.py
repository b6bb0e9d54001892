"""Stops a run on Ctrl-C or SIGTERM, with a checkpoint."""

import itertools
import os
import signal
import threading
import time
from typing import Any

from research.sharding import peers, processes

SAME = 5  # a further SIGTERM within these seconds is the same notice: schedulers repeat it
PATIENCE = 60  # seconds until a process goes on if the others do not answer

_runs = itertools.count()


class Stopping(Exception):
    """The run was asked to stop during an evaluation."""


class Stop:
    """Turns Ctrl-C and SIGTERM into a flag that the loop polls; a second signal ends the run at
    once, and says how many steps are lost.

    All processes stop at the same place, whichever received the signal. Each counts its calls of
    `reached`, the places where it could stop. After a signal all of them publish their counts, wait
    there for those of the others, and stop at the first place that none has passed.
    """

    def __init__(self, step: int):
        self.asked = False
        self.saved = self.done = step  # the last step with a checkpoint; the last finished step
        self._since = 0.0  # time of the signal
        self._peers = peers.get()
        self._word = f"stop{next(_runs)}"
        self._places, self._last = 0, -1  # places passed; where all stop, once they agree
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
            os.write(2, f"\n{text}\n".encode())  # the signal may have interrupted a print
        self.asked, self._since = True, now
        if self._peers is not None:
            self._peers.say(self._word, signal.Signals(number).name)

    def _agree(self, _: str) -> bool:
        """Publishes this process's count. Returns whether all have, so that the place is known."""
        with self._change:
            self._agreeing = True
            counts = self._peers.numbers(self._word, self._places)
            if len(counts) < self._peers.count:
                return False
            self._last, self._agreeing = max(counts) + 1, False
            self._change.notify()
        return True

    def reached(self) -> bool:
        """Whether the run stops here. All processes must call it at the same places, in order."""
        if self._peers is None:
            return self.asked
        with self._change:
            self._change.wait_for(lambda: not self._agreeing, PATIENCE)
            self._places += 1
            return 0 < self._last <= self._places

    def check(self) -> None:
        """Raises Stopping if the run stops here."""
        if self.reached():
            raise Stopping

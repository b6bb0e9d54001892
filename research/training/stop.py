"""How a run is stopped from outside: Ctrl-C, and SIGTERM."""

import os
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

from research.sharding import processes


class Stop:
    """Turns Ctrl-C and SIGTERM into what the loop reads; a second Ctrl-C ends at once, and says
    which steps are lost.

    Of several processes all stop after the same step, whichever of them was asked: jax listens to
    SIGTERM then, and agrees on a step that none has finished.
    """

    def __init__(self, step: int):
        self.asked = False
        self.saved = self.done = step  # the last one that a checkpoint has, and that was made
        self._several = jax.process_count() > 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if self._several:
            processes.share_stops()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked and number == signal.SIGINT:  # a cluster may send SIGTERM more than once
            last = f"that of step {self.saved:,}" if self.saved else "none"
            raise KeyboardInterrupt(
                f"{self.done - self.saved:,} steps are lost; the newest checkpoint is {last}"
            )
        if not self.asked and processes.first():
            text = "stopping after this step, with a checkpoint; Ctrl-C again: without one"
            os.write(2, f"\n{text}\n".encode())  # print may be at work in what was interrupted
        self.asked = True
        if self._several:
            signal.raise_signal(signal.SIGTERM)

    def after(self, step: int) -> bool:
        """Whether the run stops after this step; to be asked once for each."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.asked

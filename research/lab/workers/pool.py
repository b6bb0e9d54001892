"""Runs child processes side by side: starts them in free lanes, watches and stops them."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from research.lab.workers import children
from research.lab.workers.children import Child
from research.lab.workers.view import View

SECONDS_BETWEEN_LOOKS = 0.2


class Pool:
    """At most one child in each lane, a part of the machine (see `lanes`).

    Args:
        what: "runs" or "trials", for messages.
        devices: number of accelerator devices of each child; 0: all.
        say: prints a line of progress.
    """

    def __init__(self, what: str, lanes: int, devices: int, say: Callable[[str], None]):
        self.lanes: list[Child | None] = [None] * lanes
        self._what, self._devices = what, devices
        self.view = View(lanes, say)
        self.say = self.view.say

    @property
    def running(self) -> list[Child]:
        return list(filter(None, self.lanes))

    def begin(self, program: Sequence[str], workdir: Path) -> Child:
        """Starts a child in a free lane. The caller must check that a lane is free."""
        lane = self.lanes.index(None)
        child = children.begin(program, workdir, lane, len(self.lanes), self._devices)
        self.lanes[lane] = child
        return child

    def work(
        self,
        fill: Callable[[], bool],
        ended: Callable[[Child, int], None],
        look: Callable[[Child], None] = lambda child: None,
    ) -> list[Child] | None:
        """Runs children until none are left. Returns None, or the children that were running when
        Ctrl-C or SIGTERM stopped the pool.

        Args:
            fill: starts all children that can start; returns whether others still wait.
            ended: called with each child that has ended and its exit code.
            look: called with each running child from time to time, and once more at its end.
        """
        with self.view, _terminated_as_interrupted():
            try:
                while fill() or self.running:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    self._look(ended, look)
            except KeyboardInterrupt:
                self.say(f"stopping; the {self._what} save their checkpoints")
                running = self.running
                children.stop(running, self.say)
                return running
        return None

    def _look(self, ended: Callable[[Child, int], None], look: Callable[[Child], None]) -> None:
        for lane, child in enumerate(self.lanes):
            if child is None:
                continue
            self.view.show(lane, child.name, children.last_lines(child.workdir, 1))
            code = child.process.poll()
            look(child)
            if code is not None:
                self.lanes[lane] = None
                self.view.show(lane, "", [])
                children.upload_log(child.workdir)
                ended(child, code)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Turns SIGTERM into a Ctrl-C, so that it stops the children in the same way."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Children side by side: begun where a lane is free, watched, and stopped together."""

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
        what: "runs" or "trials", as they are called where they are stopped.
        devices: of an accelerator, that each child has; 0: all.
        say: where progress is told.
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
        """Starts a child in a free lane; there has to be one."""
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
        """Runs children until there are no more; those that a Ctrl-C or a SIGTERM has stopped, None
        where there was none.

        Args:
            fill: begins what can begin, and says whether anything waits for what is running.
            ended: called for each that has ended, with its exit code.
            look: called for each that runs, now and then, and once more at its end.
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
    """SIGTERM is a Ctrl-C here, so that the children are stopped in the same way."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

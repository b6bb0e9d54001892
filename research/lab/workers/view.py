"""Shows the progress of several runs: one bar each on a terminal, occasional lines in a pipe."""

import re
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0
BAR = 12  # characters
# A line of research/monitoring/progress.py: label and unit, units done, total, and the rest.
STATE = re.compile(r"(.+?  \w+) ([\d,]+)/([\d,]+)  (.*)")


class View:
    """A context manager. On a terminal each lane has a bar at the bottom; in a pipe it prints the
    newest line of each lane every 15 seconds. Each line begins with its run's name.
    """

    def __init__(self, lanes: int, say: Callable[[str], None]):
        self._say = say
        self._texts = [""] * lanes
        self._printed = [time.monotonic()] * lanes
        self._status = ""
        self._bars: list[tqdm] = []
        if sys.stderr.isatty():
            self._bars = [
                tqdm(bar_format="{desc}", position=lane, leave=False, dynamic_ncols=True)
                for lane in range(lanes + 1)  # the last one shows the status of all runs
            ]

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *error: object) -> None:
        for bar in self._bars:
            bar.close()

    def say(self, text: str) -> None:
        """Prints a separate line above the lanes."""
        if self._bars:
            with tqdm.external_write_mode(file=sys.stderr):
                self._say(text)
        else:
            self._say(text)

    def status(self, text: str) -> None:
        """Shows the status of all runs below the lanes; only on a terminal."""
        if self._bars and text != self._status:
            self._status = text
            self._bars[-1].set_description_str(text)

    def show(self, lane: int, name: str, lines: list[str]) -> None:
        """Shows the newest line of a lane's run; an empty list clears it."""
        text = lines[-1].strip() if lines else ""
        if text and not text.startswith(f"{name} "):  # progress lines have the name already
            text = f"{name}  {text}"
        if text == self._texts[lane]:
            return
        if self._bars:
            self._texts[lane] = text
            self._bars[lane].set_description_str(with_bar(text))
        elif not text or time.monotonic() - self._printed[lane] >= SECONDS_BETWEEN_LINES:
            self._texts[lane], self._printed[lane] = text, time.monotonic()
            if text:
                self._say(text)


def with_bar(text: str) -> str:
    """Inserts a bar into a line of progress; returns any other line unchanged."""
    state = STATE.fullmatch(text)
    if state is None:
        return text
    label, done, total, rest = state.groups()
    share = int(done.replace(",", "")) / max(int(total.replace(",", "")), 1)
    filled = round(BAR * min(share, 1.0))
    return f"{label} {done}/{total} |{'█' * filled}{' ' * (BAR - filled)}| {rest}"

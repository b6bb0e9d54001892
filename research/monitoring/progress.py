"""Shows the progress of long work: a bar on a terminal, plain lines if the output is piped."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0

# Formats of some values by name; other values follow their name, integers in full, floats with four
# significant digits.
SHOWN: dict[str, Callable[[float], str]] = {
    "loss": "loss {:.3f}".format,
    "learning_rate": "lr {:.1e}".format,
    "gradient_norm": "grad norm {:.2g}".format,
    "tokens_per_second": "{:,.0f} tokens/s".format,
    "mfu": lambda share: f"MFU {100 * share:.0f} %",
    "waiting": lambda share: f"waiting for data {100 * share:.1f} %",
}


class Progress:
    """The progress of `total` units of work (None: unknown), of which `start` are already done.

    A context manager: on exit it shows the last state and ends its line, also after an error.

        with Progress(1000, "pretrain") as progress:
            for step in range(1, 1001):
                progress.update(step, loss=..., learning_rate=..., tokens_per_second=...)
    """

    def __init__(
        self,
        total: int | None,
        label: str,
        stream: TextIO | None = None,
        start: int = 0,
        unit: str = "step",
        active: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Writes to `stream`, by default standard error; writes nothing if not active (as in all
        processes of a run but one). `clock` returns seconds.
        """
        self._total, self._label, self._unit = total, label, unit
        self._stream = sys.stderr if stream is None else stream
        self._active, self._clock = active, clock
        self._done = start
        self._first: tuple[int, float] | None = None
        self._line, self._line_time = "", -float("inf")
        self._bar = None
        if active and self._stream.isatty():
            name = f"{label}  {unit}".replace("{", "{{").replace("}", "}}")
            # The description stands last: a narrow window cuts off its end.
            state = "{n_fmt}  {desc}" if total is None else "{n_fmt}/{total_fmt} |{bar:12}| {desc}"
            self._bar = tqdm(
                total=total,
                initial=start,
                file=self._stream,
                dynamic_ncols=True,
                bar_format=f"{name} {state}",
            )

    def update(self, done: int, **values: float) -> None:
        """Shows that `done` units are done (including `start`), with the values."""
        if not self._active:
            return
        now = self._clock()
        if self._first is None:
            # Speed counts from the first update on: before it, the work compiles.
            self._first = (done, now)
        texts = [_shown(name, value) for name, value in values.items()]
        seconds = self._seconds_left(done, now)
        left = [] if seconds is None else [f"{duration(seconds)} left"]
        if self._bar is not None:
            self._bar.set_description_str("  ".join([*left, *texts]), refresh=False)
            self._bar.update(done - self._done)
        else:
            state = f"{self._label}  {self._unit} {done:,}"
            state += "" if self._total is None else f"/{self._total:,}"
            self._line = "  ".join([state, *texts, *left])
            if now - self._line_time >= SECONDS_BETWEEN_LINES:
                self._print_line(now)
        self._done = done

    def note(self, text: str) -> None:
        """Prints a separate line, above the bar if there is one."""
        if not self._active:
            return
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Shows the last state if it was not shown yet; may be called twice."""
        if self._bar is not None:
            self._bar.close()
        elif self._line:
            self._print_line(self._clock())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _seconds_left(self, done: int, now: float) -> float | None:
        if self._total is None or done >= self._total:
            return None
        if self._first is None or done <= self._first[0]:
            return None
        first, since = self._first
        return (now - since) / (done - first) * (self._total - done)

    def _print_line(self, now: float) -> None:
        print(self._line, file=self._stream, flush=True)
        self._line, self._line_time = "", now


def _shown(name: str, value: float) -> str:
    if name in SHOWN:
        return SHOWN[name](value)
    return f"{name.replace('_', ' ')} {value:{',' if isinstance(value, int) else '.4g'}}"


def duration(seconds: float) -> str:
    """Formats seconds for people: "42 s", "3 min", "2 h 05 min", "1 d 03 h"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 24:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"

"""Measures how a run spends its time: speed for each line of metrics, and a summary at the end."""

import contextlib
import time
from collections.abc import Iterator, Mapping

import jax

from research.monitoring.progress import duration
from research.run import flops
from research.run.run import Run

# The activities of a run, in the order of the summary.
SPENT = {
    "start": "starting",
    "first_step": "the first step (compiling)",
    "steps": "steps",
    "waiting": "waiting for data",
    "evaluation": "evaluation",
    "saving": "saving",
    "writing": "writing metrics",
}
WITHIN = ("first_step", "steps", "waiting", "writing")  # these count for the training speed


class Clock:
    """Measures a run's times on the host, which waits for the step before the last one."""

    def __init__(self, run: Run, began: float):
        """began: start of the run, by `time.perf_counter`."""
        self._run, self._began = run, began
        self._peak = flops.matmul_peak(run.model.dtype) * run.mesh.size
        self._spent = dict.fromkeys(SPENT, 0.0)
        self._spent["start"] = time.perf_counter() - began
        self._begin()

    def _begin(self) -> None:
        self._since, self._at = time.perf_counter(), dict(self._spent)
        self._tokens = self._flops = 0.0

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Adds the time of its block to one activity of `SPENT`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] += time.perf_counter() - start

    def add(self, batch: Mapping[str, jax.Array]) -> None:
        """Counts a batch's positions and the floating-point operations of its step."""
        rows = batch["tokens"].shape[0]
        layout = self._run.train.layout
        self._tokens += rows * layout.length
        self._flops += flops.train_step(self._run.model, layout, rows, self._run.objectives)

    def read(self) -> dict[str, float]:
        """Returns speeds since the last reading; the caller must have waited for the device."""
        since = {name: self._spent[name] - self._at[name] for name in SPENT}
        idle = sum(seconds for name, seconds in since.items() if name not in WITHIN)
        seconds = max(time.perf_counter() - self._since - idle, 1e-9)
        speed = {"seconds": seconds, "tokens_per_second": self._tokens / seconds}
        share = self._flops / seconds / self._peak
        # A peak measured while other work ran is too low, and the share wrong.
        speed |= {"mfu": share} if share <= 1 else {}
        speed["waiting"] = since["waiting"] / seconds
        self._begin()
        return speed

    def spent(self) -> dict[str, float]:
        """Returns the seconds of each activity of `SPENT`, and "all" since the start of the run."""
        return self._spent | {"all": time.perf_counter() - self._began}


def summary(spent: Mapping[str, float]) -> str:
    """Returns one line on how a run spent its time."""
    whole = max(spent["all"], 1e-9)
    shares = {words: spent[name] / whole for name, words in SPENT.items()}
    shares["the rest"] = max(0.0, 1 - sum(shares.values()))
    parts = [f"{words} {share:.1%}" for words, share in shares.items() if share >= 0.0005]
    return f"time: {duration(whole)}: {', '.join(parts)}"

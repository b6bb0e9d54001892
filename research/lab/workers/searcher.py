"""Runs the trials of a search, each in its own process, several at a time."""

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from research import bucket, lock
from research.errors import DIVERGED
from research.lab import search as searches
from research.lab.search import Search
from research.lab.workers import children, lanes
from research.lab.workers.children import Child
from research.lab.workers.pool import Pool
from research.monitoring.progress import duration
from research.monitoring.writers import METRICS, lines
from research.run.best import is_better

if TYPE_CHECKING:
    import optuna

PROGRAM = (*children.PROGRAM, "trial")
HOPELESS = 3  # a search ends after this many failed trials if none has finished


@dataclasses.dataclass
class Outcome:
    """The study after a search, and the trials that ended with an error."""

    study: "optuna.Study"
    failed: list[str]
    interrupted: bool = False


def run(
    search: Search,
    file: str,
    folder: Path,
    trials: int = 0,
    parallel: int = 0,
    devices: int = 0,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Runs trials until there are as many as asked for.

    Args:
        file: the search's file, which the processes of the trials load again.
        trials: total number of trials; 0: that of the search.
        parallel, devices, say: as in `runner.run`.

    Raises UserError as `search.study` does.
    """
    searches.require(folder)
    with lock.alone(folder, lock.COMMAND):
        study = searches.study(search, folder)
        wanted, over = trials or search.trials, len(searches.over(study))
        if over >= wanted:
            say(f"{over} trials are done already; a higher --trials runs more")
            return Outcome(study, [])
        count = min(lanes.count(parallel, devices), wanted - over)
        say(f"to run: {wanted - over} trials, {count} at a time, in {folder}")
        pool = Pool("trials", count, devices, say)
        return _Searcher(search, study, file, folder, wanted, pool).run()


@dataclasses.dataclass
class _Running:
    trial: "optuna.Trial"
    seen: int = 0  # number of evaluations reported to the study
    pruned: bool = False


class _Searcher:
    """The running trials; the pool asks it which trial starts next."""

    def __init__(self, search, study, file, folder, wanted, pool):
        self.search, self.study, self.file, self.folder = search, study, file, folder
        self.wanted, self.pool = wanted, pool
        self.running: dict[str, _Running] = {}  # by the name of the trial's folder
        self.outcome = Outcome(study, [])
        self.hopeless = False

    def run(self) -> Outcome:
        self.outcome.interrupted = self.pool.work(self._fill, self._ended, self._report) is not None
        return self.outcome

    def _fill(self) -> bool:
        """Starts trials in the free lanes; no trial waits for another."""
        done = searches.over(self.study)
        if self.hopeless and not any(t.state.name == "COMPLETE" for t in done):
            if not self.pool.running:
                self.pool.say("no trial has succeeded: the search ends here")
            return False
        while None in self.pool.lanes and len(done) + len(self.pool.running) < self.wanted:
            trial, values, name = searches.ask(self.search, self.study)
            place = self.folder / name
            place.mkdir(parents=True, exist_ok=True)
            bucket.write_whole(place / searches.PARAMETERS, json.dumps(values, indent=1) + "\n")
            self.pool.say(f"{name}: {shown(values)}")
            self.pool.begin([*PROGRAM, self.file, str(place)], place)
            self.running[name] = _Running(trial)
        return False

    def _report(self, child: Child) -> None:
        """Reports new evaluations to the study, and stops a trial that is behind."""
        running, evaluated = self.running[child.name], values(child.workdir, self.search.metric)
        for number, value in enumerate(evaluated[running.seen :], start=running.seen + 1):
            # By number, not by step: trials with other batch sizes evaluate at other steps.
            if math.isfinite(value):
                running.trial.report(value, number)
            running.seen = number
            if not running.pruned and running.trial.should_prune():
                running.pruned = True
                child.process.send_signal(signal.SIGINT)

    def _ended(self, child: Child, code: int) -> None:
        from optuna.trial import TrialState

        running, evaluated = self.running[child.name], values(child.workdir, self.search.metric)
        took = duration(time.monotonic() - child.since)
        if code == 0 and any(map(math.isfinite, evaluated)):
            value = best(self.search.metric, evaluated)
            self.study.tell(running.trial, value)
            self.pool.say(f"{child.name}: {self.search.metric} {value:.4g}, in {took}")
        elif running.pruned:
            self.study.tell(running.trial, state=TrialState.PRUNED)
            self.pool.say(f"{child.name}: stopped after {running.seen} evaluations, behind others")
        else:
            self.study.tell(running.trial, state=TrialState.FAIL)
            self.outcome.failed.append(child.name)
            # A trial without any evaluation points to wrong input, not to bad values, unless it has
            # diverged.
            wrong_input = not evaluated and code != DIVERGED
            self.hopeless |= wrong_input or len(self.outcome.failed) >= HOPELESS
            children.failed(child, code, self.pool.say)


def values(workdir: Path, metric: str) -> list[float]:
    """Returns the values of a trial's evaluations so far."""
    key = f"validation/{metric}"
    return [float(line[key]) for line in lines(workdir / METRICS) if key in line]


def best(metric: str, evaluated: list[float]) -> float:
    """Returns the best of the finite values."""
    chosen, *others = filter(math.isfinite, evaluated)
    for value in others:
        chosen = value if is_better(metric, value, chosen) else chosen
    return chosen


def shown(values: dict) -> str:
    """Formats values with their keys in one line."""
    return ", ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )

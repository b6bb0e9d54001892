"""Makes the trials of a search, each in a process of its own, several at a time."""

import dataclasses
import json
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from research import bucket, lock
from research.errors import DIVERGED
from research.experiments import children, lanes
from research.experiments import search as searches
from research.experiments.children import Child
from research.experiments.search import Search
from research.experiments.view import View
from research.monitoring.progress import duration
from research.monitoring.writers import METRICS, lines
from research.run.best import is_better

if TYPE_CHECKING:
    import optuna

PROGRAM = (sys.executable, "-m", "research.experiments.trial")
PARAMETERS = "parameters.json"  # of a trial, in its folder
SECONDS_BETWEEN_LOOKS = 0.2
HOPELESS = 3  # trials that fail, where none is done, end a search


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
    """Makes trials until there are as many as asked for.

    Args:
        file: the search's file, which the processes of the trials load again.
        trials: how many in all; 0: as the search says.
        parallel, devices, say: as in `runner.run`.

    Raises UserError as `search.study` does.
    """
    searches.require(folder)
    with lock.alone(folder, lock.COMMAND):
        return _run(search, file, folder, trials, parallel, devices, say)


def _run(
    search: Search,
    file: str,
    folder: Path,
    trials: int,
    parallel: int,
    devices: int,
    say: Callable[[str], None],
) -> Outcome:
    study = searches.study(search, folder)
    wanted, made = trials or search.trials, len(searches.over(study))
    if made >= wanted:
        say(f"{made} trials are made already; a higher --trials makes more")
        return Outcome(study, [])
    count = min(lanes.count(parallel, devices), wanted - made)
    say(f"to make: {wanted - made} trials, {count} at a time, in {folder}")
    return _Searcher(search, study, file, folder, wanted, count, devices, say).run()


@dataclasses.dataclass
class _Running:
    trial: "optuna.Trial"
    child: Child
    seen: int = 0  # evaluations
    pruned: bool = False


class _Searcher:
    def __init__(self, search, study, file, folder, wanted, count, devices, say):
        self.search, self.study, self.file, self.folder = search, study, file, folder
        self.wanted, self.devices = wanted, devices
        self.lanes: list[_Running | None] = [None] * count
        self.outcome = Outcome(study, [])
        self.hopeless = False
        self.view = View(count, say)

    def run(self) -> Outcome:
        with self.view, children.terminated_as_interrupted():
            try:
                self._begin()
                while any(self.lanes):
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    self._look()
                    self._begin()
            except KeyboardInterrupt:
                self.outcome.interrupted = True
                self.view.say("stopping; the trials save their checkpoints")
                children.stop([r.child for r in self.lanes if r], self.view.say)
        return self.outcome

    def _begin(self) -> None:
        """Fills the free lanes."""
        done = searches.over(self.study)
        if self.hopeless and not any(t.state.name == "COMPLETE" for t in done):
            if not any(self.lanes):
                self.view.say("no trial was better: the search ends here")
            return
        for lane, running in enumerate(self.lanes):
            if running or len(done) + sum(map(bool, self.lanes)) >= self.wanted:
                continue
            trial, values, name = searches.ask(self.search, self.study)
            place = self.folder / name
            place.mkdir(parents=True, exist_ok=True)
            bucket.write_whole(place / PARAMETERS, json.dumps(values, indent=1) + "\n")
            self.view.say(f"{name}: {shown(values)}")
            program = [*PROGRAM, self.file, str(place)]
            child = children.begin(program, place, lane, len(self.lanes), self.devices)
            self.lanes[lane] = _Running(trial, child)

    def _look(self) -> None:
        for lane, running in enumerate(self.lanes):
            if running is None:
                continue
            child = running.child
            self.view.show(lane, child.name, children.last_lines(child.workdir, 1))
            code = child.process.poll()
            self._report(running)
            if code is not None:
                self.lanes[lane] = None
                self.view.show(lane, "", [])
                self._end(running, code)

    def _report(self, running: _Running) -> None:
        """Tells the study of new evaluations, and stops a trial that is behind."""
        found = values(running.child.workdir, self.search.metric)
        for number, value in enumerate(found[running.seen :], start=running.seen + 1):
            # By number, not by step: trials of other batch sizes have other steps.
            if math.isfinite(value):
                running.trial.report(value, number)
            running.seen = number
            if not running.pruned and running.trial.should_prune():
                running.pruned = True
                running.child.process.send_signal(signal.SIGINT)

    def _end(self, running: _Running, code: int) -> None:
        from optuna.trial import TrialState

        child, found = running.child, values(running.child.workdir, self.search.metric)
        took = duration(time.monotonic() - child.since)
        if code == 0 and any(map(math.isfinite, found)):
            value = best(self.search.metric, found)
            self.study.tell(running.trial, value)
            self.view.say(f"{child.name}: {self.search.metric} {value:.4g}, in {took}")
        elif running.pruned:
            self.study.tell(running.trial, state=TrialState.PRUNED)
            self.view.say(f"{child.name}: stopped after {running.seen} evaluations, behind others")
        else:
            self.study.tell(running.trial, state=TrialState.FAIL)
            self.outcome.failed.append(child.name)
            # Without one evaluation it is the input that is wrong, not the values, unless these
            # have made it diverge.
            wrong_input = not found and code != DIVERGED
            self.hopeless |= wrong_input or len(self.outcome.failed) >= HOPELESS
            children.failed(child, code, self.view.say)


def values(workdir: Path, metric: str) -> list[float]:
    """What a trial's evaluations have yielded so far."""
    key = f"validation/{metric}"
    return [float(line[key]) for line in lines(workdir / METRICS) if key in line]


def best(metric: str, found: list[float]) -> float:
    """The best of several values, without those that are not numbers."""
    chosen, *others = filter(math.isfinite, found)
    for value in others:
        chosen = value if is_better(metric, value, chosen) else chosen
    return chosen


def shown(values: dict) -> str:
    """Values by their keys, in a line."""
    return ", ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )

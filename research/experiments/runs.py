"""A report of any runs, from what lies in their folders."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research import bucket, tasks
from research.config import Config, flat, from_values
from research.errors import UserError
from research.experiments import curves, levels, provenance, report
from research.experiments.curves import Drawn
from research.experiments.experiment import Job
from research.experiments.job import SCORED
from research.experiments.provenance import SEED, config_differences, of_one_kind
from research.experiments.report import LEGEND, Report
from research.experiments.results import Cell, Measure, Results, collect, compare, started_from
from research.experiments.sheets import Sheet
from research.experiments.table import Column, Table
from research.monitoring import starts
from research.monitoring.starts import CONFIG, no_run
from research.monitoring.writers import METRICS, lines
from research.run.best import LOWER_IS_BETTER

VALIDATION = "validation/"


@dataclasses.dataclass(frozen=True)
class _Made:
    """A run: its config, the last evaluation's metrics, the fingerprint of what was measured then
    ("" where one of the runs has noted none), and the name of its row."""

    path: Path
    name: str
    group: str
    values: dict[str, Any]
    metrics: dict[str, float]
    measured: str

    def measured_on(self, split: str) -> tuple[str, str]:
        """(task, data and how much of it): runs that do not share it are not compared."""
        return provenance.measured_on(self.values, split, self.measured)

    @property
    def config(self) -> Config:
        """Raises UserError for one of another version, with keys that are no longer known."""
        return from_values(self.values, str(self.path / CONFIG), to_run=False)

    @property
    def seed(self) -> int:
        return self.values.get("seed", 0)

    @property
    def start(self) -> str:
        """The checkpoint whose weights it has begun with."""
        return started_from(self.values.get("init_from", ""), self.values.get("init", "restore"))


def of_folders(folders: Sequence[str], price: float = 0.0) -> Report:
    """The report of runs. The row of the first is what others are compared with.

    Args:
        price: of a device for an hour.

    Raises UserError for a folder that is not a run's.
    """
    runs, repeated = _without_repeats(_read_all(folders))
    paths = [run.path for run in runs]
    sheets = _evaluations(runs)
    texts = report.last_texts([(run.group, run.path) for run in runs])
    scored = [run for run in runs if (run.path / SCORED).exists()]
    if scored:
        found, predictions = _tests(scored)
        sheets += found
        texts["One prediction of each"] = predictions
    details = config_differences({run.group: flat(run.values) for run in runs})
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    notes = [*repeated, provenance.cost(paths, price), *provenance.about(paths)]
    return Report(title, sheets, texts, notes, details, _drawn(runs))


def _drawn(runs: Sequence[_Made]) -> dict[str, Any]:
    measured = [run.measured_on("validation") for run in runs]
    names = provenance.kinds(measured)
    stages = [names[kind] for kind in measured]
    reached = {stage: levels.chance(run.values) for stage, run in zip(stages, runs, strict=True)}
    drawn = [Drawn(r.path, r.group, stage) for r, stage in zip(runs, stages, strict=True)]
    return curves.of_runs(drawn, reached)


def _read_all(folders: Sequence[str]) -> list[_Made]:
    found = {folder: _read(folder) for folder in folders}
    names = _names(found)
    measured = {folder: _measured(folder) for folder in folders}
    if not all(measured.values()):  # runs of before it was noted
        measured = dict.fromkeys(folders, "")
    rows: dict[str, str] = {}  # config -> name
    runs = []
    for folder, (config, metrics) in found.items():
        key = json.dumps([of_one_kind(flat(config)), measured[folder]], sort_keys=True)
        name = SEED.sub("", names[folder])
        # Other configs may have folders of the same name.
        group = rows.setdefault(key, names[folder] if name in rows.values() else name)
        path, own = bucket.path(folder), measured[folder]
        runs.append(_Made(path, names[folder], group, config, metrics, own))
    return runs


def _without_repeats(runs: Sequence[_Made]) -> tuple[list[_Made], list[str]]:
    """The runs, each with its seed once, and what was left out. A run that was made again (by
    `reproduce`, or after a change of code) would pass for one more seed."""
    first: dict[Any, _Made] = {}
    notes = []
    for run in runs:
        same = first.setdefault((run.group, run.seed, run.start), run)
        if same is not run:
            notes.append(f"Left out: {run.name}, the same run with the same seed as {same.name}.")
    return list(first.values()), notes


def _read(folder: str) -> tuple[dict[str, Any], dict[str, float]]:
    """(the config, the last evaluation's metrics) of a run."""
    path = bucket.path(folder)
    if not (path / CONFIG).exists():
        raise no_run(path)
    values = provenance.config_of(path)
    if (path / SCORED).exists() and not values.get("task"):
        raise UserError(f"{path / CONFIG} is damaged: it has no task, but {SCORED} is there")
    found: dict[str, float] = {}
    for line in lines(path / METRICS):
        measured = {
            k.removeprefix(VALIDATION): float(v) for k, v in line.items() if VALIDATION in k
        }
        found = measured or found
    return values, found


def _measured(folder: str) -> str:
    found = starts.read(bucket.path(folder))
    return found[-1].get("measured", "") if found else ""


def _names(folders: Mapping[str, Any]) -> dict[str, str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = {folder: folder.rstrip("/").split("/") for folder in folders}
    for count in range(1, max(map(len, parts.values())) + 1):
        names = {folder: "/".join(found[-count:]) for folder, found in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _by(runs: Sequence[_Made], key: Callable[[_Made], Hashable]) -> dict[Any, list[_Made]]:
    found = defaultdict(list)
    for run in runs:
        found[key(run)].append(run)
    return dict(found)


def _columns(runs: Sequence[_Made], split: str) -> dict[tuple[str, str], str]:
    """What is measured on -> what the names of its columns end with; nothing if there is one."""
    names = provenance.kinds([run.measured_on(split) for run in runs])
    return {kind: f" ({name})" if len(names) > 1 else "" for kind, name in names.items()}


def _evaluations(runs: Sequence[_Made]) -> list[Sheet]:
    """The last evaluation of each run, and the differences to the first one's row."""
    columns = _columns(runs, "validation")
    cells, measures = {}, {}
    table: dict[str, dict[str, str]] = {}
    for group, same in _by(runs, lambda run: run.group).items():
        end = columns[same[0].measured_on("validation")]
        table[group] = {}
        for metric in dict.fromkeys(m for run in same for m in run.metrics):
            name = metric + end
            measures[name] = Measure(metric, metric.endswith(LOWER_IS_BETTER))
            found = [run for run in same if metric in run.metrics]
            values = dict(zip(_seeds(found), (r.metrics[metric] for r in found), strict=True))
            starts = frozenset(run.start for run in found) - {""}
            cells[group, name] = Cell(group, values, [], starts)
            table[group][name] = group
    found = Table(table, {name: Column() for name in measures}, next(iter(table)))
    results = compare(found, cells, measures, {})
    note = f"On the validation split. {LEGEND}"
    first = _renamed(report.values(results), "Last evaluation", "evaluation", note)
    return [first, *_differences(results, "", "differences")]


def _differences(results: Results, of: str, name: str) -> list[Sheet]:
    """The differences in each column to the first row that has it, a table for each such row."""
    baselines: dict[str, str] = {}
    for row, column in results.cells:
        baselines.setdefault(column, row)
    sheets: list[Sheet] = []
    for baseline in dict.fromkeys(baselines.values()):
        cells = {p: cell for p, cell in results.cells.items() if baselines[p[1]] == baseline}
        table = dataclasses.replace(results.table, baseline=baseline)
        found = compare(table, cells, results.measures, results.tasks)
        if found.differences:
            sheet = report.differences(found)
            own = f"{name}_{len(sheets) + 1}" if sheets else name
            sheets.append(_renamed(sheet, sheet.title + of, own, sheet.note))
    return sheets


def _seeds(runs: Sequence[_Made]) -> list[tuple[int, ...]]:
    """The seeds of the runs of a row, as `Job` has them: first that of the pre-training, or its
    number where the folders' names do not tell it."""
    starts = list(dict.fromkeys(run.start for run in runs))
    if len(starts) == 1:
        return [(number,) for number in range(len(runs))]
    names = [SEED.search(start) for start in starts]
    found = [name and int(name[0].removeprefix("-seed").split(".")[0]) for name in names]
    firsts = range(len(starts)) if None in found else found
    of = dict(zip(starts, zip(firsts, range(len(starts)), strict=True), strict=True))
    return [(*of[run.start], run.seed) for run in runs]


def _tests(runs: Sequence[_Made]) -> tuple[list[Sheet], str]:
    """What runs of experiments have on their test splits, and a prediction of each."""
    columns = _columns(runs, "test")
    table: dict[str, dict[str, str]] = {}
    shown, jobs = {}, []
    for group, same in _by(runs, lambda run: run.group).items():
        end = columns[same[0].measured_on("test")]
        for run, seeds in zip(same, _seeds(same), strict=True):
            trained = (run.path / "checkpoints").exists()
            jobs.append(Job(group, seeds, run.config, run.path, None, trained))
        metrics = {f"{metric}{end}": metric for metric in tasks.metrics(same[0].config.task)}
        shown |= {name: Column(metric) for name, metric in metrics.items()}
        table[group] = dict.fromkeys(metrics, group)
    results = collect(Table(table, shown, next(iter(table))), jobs)
    first = _renamed(report.values(results), "Test split", "test", LEGEND)
    found = _differences(results, ", test split", "test_differences")
    return [first, *found], report.samples(results, jobs)


def _renamed(sheet: Sheet, title: str, name: str, note: str) -> Sheet:
    return dataclasses.replace(sheet, title=title, name=name, note=note)

"""A report of any runs, from what lies in their folders."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from research import bucket
from research.config import flat
from research.errors import UserError, nearest
from research.experiments import curves
from research.experiments.provenance import SEED, about, config_differences, of_one_kind
from research.experiments.report import LEGEND, Report
from research.experiments.results import Cell
from research.experiments.sheets import Sheet, spread
from research.monitoring.starts import CONFIG
from research.monitoring.writers import METRICS

VALIDATION = "validation/"


def report(folders: Sequence[str]) -> tuple[Report, dict[str, Any]]:
    """The report of runs, and their curves. Raises UserError for a folder that is no run's."""
    runs = {folder: _read(folder) for folder in folders}
    names = _names(runs)
    groups = _groups(runs, names)
    differing = config_differences({groups[f]: values for f, (values, _) in runs.items()})
    drawn = [curves.of_run(bucket.path(f), names[f], groups[f]) for f in runs]
    title = names[folders[0]] if len(runs) == 1 else f"{len(runs)} runs"
    notes = about([bucket.path(folder) for folder in runs])
    made = Report(title, [_last(runs, groups)], {}, notes, [differing] if differing.rows else [])
    return made, {"runs": drawn, "metrics": curves.metrics_of(drawn)}


def _groups(runs: Mapping[str, tuple[dict, dict]], names: Mapping[str, str]) -> dict[str, str]:
    """The name of the row of each run: those share one that differ in their seed alone."""
    rows: dict[str, str] = {}  # config -> name
    for folder, (config, _) in runs.items():
        key = json.dumps(of_one_kind(config), sort_keys=True)
        name = SEED.sub("", names[folder])
        # Other configs may have folders of the same name.
        rows.setdefault(key, names[folder] if name in rows.values() else name)
    return {
        folder: rows[json.dumps(of_one_kind(config), sort_keys=True)]
        for folder, (config, _) in runs.items()
    }


def _read(folder: str) -> tuple[dict[str, Any], dict[str, float]]:
    """(the flat config, the last evaluation's metrics) of a run."""
    path = bucket.path(folder)
    if not (path / CONFIG).exists():
        near = [str(p.parent) for p in path.glob(f"*/{CONFIG}")] if path.is_dir() else []
        more = f"; its folders {near[0]}, … are" if near else ""
        more = more or (nearest(folder, _neighbours(path)) if _neighbours(path) else "")
        raise UserError(f"{folder} is no run's folder: it has no {CONFIG}{more}")
    try:
        config = json.loads((path / CONFIG).read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path / CONFIG} is damaged: {error}") from error
    found: dict[str, float] = {}
    lines = (path / METRICS).read_text().splitlines() if (path / METRICS).exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path / METRICS}, line {number} is damaged: {error}") from error
        measured = {
            k.removeprefix(VALIDATION): float(v) for k, v in values.items() if VALIDATION in k
        }
        found = measured or found
    return flat(config), found


def _neighbours(path: Path) -> list[str]:
    """The runs beside a folder."""
    return [str(p.parent) for p in path.parent.glob(f"*/{CONFIG}")] if path.parent.is_dir() else []


def _names(folders: Mapping[str, Any]) -> dict[str, str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = {folder: folder.rstrip("/").split("/") for folder in folders}
    for count in range(1, max(map(len, parts.values())) + 1):
        names = {folder: "/".join(found[-count:]) for folder, found in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _seeds(folder: str) -> tuple[int, ...]:
    """The seeds at the end of a folder's name, see `Job`."""
    found = SEED.search(folder)
    return tuple(map(int, found[0].removeprefix("-seed").split("."))) if found else ()


def _last(runs: Mapping[str, tuple[dict, dict]], groups: Mapping[str, str]) -> Sheet:
    """The last evaluation of each run; runs that differ in their seed alone share a row."""
    by_group: dict[str, list[str]] = defaultdict(list)
    for folder in runs:
        by_group[groups[folder]].append(folder)
    metrics = list(dict.fromkeys(m for _, measured in runs.values() for m in measured))
    rows = []
    for group, folders in by_group.items():
        row = [group]
        for metric in metrics:
            found = {f: runs[f][1][metric] for f in folders if metric in runs[f][1]}
            seeds = [_seeds(folder) for folder in found]
            keys = seeds if len(set(seeds)) == len(seeds) else [(i,) for i in range(len(seeds))]
            cell = Cell(group, dict(zip(keys, found.values(), strict=True)), [])
            row.append(spread(cell.units, mean(cell.units), cell.deviation) if found else "")
        rows.append(row)
    header = ["run", *(metric.replace("_", " ") for metric in metrics)]
    note = f"On the validation split. {LEGEND}"
    return Sheet("Last evaluation", header, rows, note, "evaluation")

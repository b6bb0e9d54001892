"""Builds a report of any runs from their folders."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence

from research import bucket, tasks
from research.config import flat
from research.errors import UserError
from research.lab.record import SCORED, Record
from research.lab.reports import levels, provenance, report
from research.lab.reports.provenance import SEED, of_one_kind
from research.lab.reports.report import LEGEND, Report
from research.lab.reports.results import Results, collect, compare
from research.lab.reports.sheets import Sheet
from research.lab.table import Column, Table
from research.monitoring.starts import CONFIG, no_run


def of_folders(folders: Sequence[str], price: float = 0.0) -> Report:
    """Builds the report of runs; the row of the first run is the baseline.

    Args:
        price: price of a device-hour.

    Raises UserError for a folder that is not a run's.
    """
    names = _names(folders)
    records, repeated = _with_seeds(_read(names), names)
    note = f"On the validation split. {LEGEND}"
    _, sheets = _sheets(records, "validation", ("Last evaluation", "evaluation", note))
    texts = report.last_texts(records)
    scored = [r for r in records if (r.folder / SCORED).exists()]
    if scored:
        results, tests = _sheets(scored, "test", ("Test split", "test", LEGEND))
        sheets += tests
        texts["One prediction of each"] = report.samples(results, scored)
    title = names[folders[0]] if len(records) == 1 else f"{len(records)} runs"
    notes = [*repeated, provenance.cost(records, price), *provenance.about(records)]
    details = provenance.config_differences(records)
    return Report(title, sheets, texts, notes, details, levels.drawn(records))


def _names(folders: Sequence[str]) -> dict[str, str]:
    """Shortens paths to their last parts, as many as it takes to make them unique."""
    parts = {folder: folder.rstrip("/").split("/") for folder in folders}
    for count in range(1, max(map(len, parts.values())) + 1):
        names = {folder: "/".join(path[-count:]) for folder, path in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _read(names: dict[str, str]) -> dict[str, Record]:
    """Reads the records of folders; runs that differ only in their seeds get one name.

    names: folder -> name.
    """
    records = {folder: Record(bucket.path(folder), name) for folder, name in names.items()}
    for record in records.values():
        file = record.folder / CONFIG
        if not file.exists():
            raise no_run(record.folder)
        if (record.folder / SCORED).exists() and not record.values.get("task"):
            raise UserError(f"{file} is damaged: it has no task, but {SCORED} is there")
    measured = {f: r.starts[-1].get("measured", "") if r.starts else "" for f, r in records.items()}
    if not all(measured.values()):  # older runs lack it
        measured = dict.fromkeys(records, "")
    rows: dict[str, str] = {}  # config -> name
    for folder, record in records.items():
        key = json.dumps([of_one_kind(flat(record.values)), measured[folder]], sort_keys=True)
        name = SEED.sub("", record.name)
        # Other configs may have folders of the same name.
        name = rows.setdefault(key, record.name if name in rows.values() else name)
        records[folder] = dataclasses.replace(record, name=name, measured=measured[folder])
    return records


def _with_seeds(
    records: dict[str, Record], names: dict[str, str]
) -> tuple[list[Record], list[str]]:
    """Returns the runs with their seeds, without repeated ones, and notes on those: a run that was
    repeated (by `reproduce`, or after a change of code) would pass for another seed."""
    first: dict[tuple[str, int, str], str] = {}
    notes = []
    for folder, record in records.items():
        same = first.setdefault((record.name, record.values.get("seed", 0), record.start), folder)
        if same != folder:
            also = f"the same run with the same seed as {names[same]}"
            notes.append(f"Left out: {names[folder]}, {also}.")
    once = [records[folder] for folder in first.values()]
    seeds = {r.folder: s for same in _by_name(once).values() for r, s in _seeds(same)}
    return [dataclasses.replace(record, seeds=seeds[record.folder]) for record in once], notes


def _seeds(records: Sequence[Record]) -> list[tuple[Record, tuple[int, ...]]]:
    """Returns the seeds of the runs of a row, as in `Job`: first the pre-training's seed, or its
    index if the folders' names do not contain the seed."""
    starts = list(dict.fromkeys(record.start for record in records))
    if len(starts) == 1:
        return [(record, (number,)) for number, record in enumerate(records)]
    matches = [SEED.search(start) for start in starts]
    own = [match and int(match[0].removeprefix("-seed").split(".")[0]) for match in matches]
    firsts = dict(zip(starts, range(len(starts)) if None in own else own, strict=True))
    return [(r, (firsts[r.start], starts.index(r.start), r.values.get("seed", 0))) for r in records]


def _by_name(records: Sequence[Record]) -> dict[str, list[Record]]:
    rows = defaultdict(list)
    for record in records:
        rows[record.name].append(record)
    return rows


def _sheets(
    records: Sequence[Record], split: str, shown_as: tuple[str, str, str]
) -> tuple[Results, list[Sheet]]:
    """Returns the results of runs on a split, and tables of the values and of the differences to
    the first row.

    shown_as: title, file name and note of the first table.
    """
    kinds = provenance.kinds([record.measured_on(split) for record in records])
    rows: dict[str, dict[str, str]] = {}
    columns: dict[str, Column] = {}
    for name, same in _by_name(records).items():
        metrics = dict.fromkeys(metric for record in same for metric in record.metrics)
        if split == "test":
            metrics = tasks.metrics(same[0].config.task)
        end = f" ({kinds[same[0].measured_on(split)]})" if len(kinds) > 1 else ""
        rows[name] = {metric + end: name for metric in metrics}
        columns |= {metric + end: Column(metric) for metric in metrics}
    results = collect(Table(rows, columns, next(iter(rows))), records, split)
    title, file, note = shown_as
    first = dataclasses.replace(report.values(results), title=title, name=file, note=note)
    return results, [first, *_differences(results, split)]


def _differences(results: Results, split: str) -> list[Sheet]:
    """Tabulates the differences to the first row that has a column, one table per such row."""
    of, name = (", test split", "test_differences") if split == "test" else ("", "differences")
    baselines: dict[str, str] = {}
    places = list(results.cells)
    if split == "validation":  # row by row
        places.sort(key=lambda place: list(results.table.rows).index(place[0]))
    for row, column in places:
        baselines.setdefault(column, row)
    sheets: list[Sheet] = []
    for baseline in dict.fromkeys(baselines.values()):
        cells = {p: results.cells[p] for p in places if baselines[p[1]] == baseline}
        table = dataclasses.replace(results.table, baseline=baseline)
        compared = compare(table, cells, results.measures, results.tasks)
        if compared.differences:
            sheet = report.differences(compared)
            own = f"{name}_{len(sheets) + 1}" if sheets else name
            sheets.append(dataclasses.replace(sheet, title=sheet.title + of, name=own))
    return sheets

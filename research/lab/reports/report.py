"""Builds the report of an experiment: table, differences with intervals, predictions, cost."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from research.evaluation import predictor
from research.lab.experiment import Experiment, Job, checkpoint_of
from research.lab.record import Record
from research.lab.reports import curves, levels, provenance, sheets, statistics
from research.lab.reports.levels import Reached
from research.lab.reports.results import Results, collect
from research.lab.reports.sheets import Sheet, number, signed, spread
from research.metrics.jackknife import Gap
from research.monitoring import writers
from research.run.loaded import load_model

SHOWN = 20  # a sample shows one of this many test examples
SIMPLE = "simple method"  # name of the row of simple methods
LEGEND = (
    "Mean ± standard deviation over seeds (number of seeds). If pre-trainings have several seeds, "
    "over these, with the fine-tunings from each averaged. Seeds of the fine-tuning alone say "
    "nothing about other pre-trainings: they do not compare rows from different pre-trainings."
)
INTERVALS = (
    "95 % intervals: over seeds by Welch's t, with the test examples fixed; over test examples, "
    "grouped by document, by the paired jackknife, with the seeds fixed; over both by the sum of "
    "the two variances. A column without test examples says nothing about other held-out text. "
    "* is significant by all intervals of the line, with at least 5 seeds: the largest p is below "
    "0.05 after Holm's correction for all lines of this table with that many seeds; only such a "
    "line is called better or worse. Perhaps: no interval contains 0, but there is no star; this "
    "is not corrected, so up to one in twenty differences that do not exist reads like this. Not "
    "resolved: an interval contains 0, or the intervals lie on different sides of it. One seed: "
    "nothing is known about others."
)
RULES = (
    "Next sentences: the baseline is the best of several rules that do not read the text, fitted "
    "to the training pairs: by the sources, the two lengths, or the sets of tokens in A and in B."
)
METRICS = {  # metrics of a pre-training to show, with their names
    "masked_accuracy": "masked accuracy",
    "next_sentence_accuracy": "next sentence accuracy",
    "sentence_order_accuracy": "sentence order accuracy",
    "prefix_perplexity": "perplexity behind a prefix",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
}
MASKED = "The cat sat on the [MASK]."
PAIR = ("I have a cat.", "It loves to purr.")
PROMPT = "The dog wagged its"


@dataclasses.dataclass(frozen=True)
class Report:
    """A title, tables, texts by heading, and notes at the end.

    details, curves: more tables, and the result of `curves.of_runs`; only the HTML page shows them.
    """

    title: str
    sheets: Sequence[Sheet]
    texts: Mapping[str, str]
    notes: Sequence[str]
    details: Sequence[Sheet] = ()
    curves: Mapping[str, Any] = dataclasses.field(default_factory=lambda: curves.of_runs([]))


def of_experiment(experiment: Experiment, done: list[Job], folder: Path, left: int = 0) -> Report:
    """Builds the report of an experiment.

    Args:
        done: the finished jobs; left: the number of other jobs.
    """
    records = list(map(Record.of, done))
    sheets, texts, results = [], {}, None
    chosen = [r for r in records if r.name in experiment.pretraining]
    simple = {r.folder.name: levels.language_baselines(r) for r in chosen}
    if chosen:
        sheets.append(_pretraining(chosen, simple))
    if any(r.done.get("sources") for r in chosen):
        sheets.append(_by_corpus(chosen, simple))
    if experiment.table:
        results = collect(experiment.table, records)
        sheets.append(values(results))
        if results.differences:
            sheets.append(differences(results))
        if predictions := samples(results, records):
            texts["One prediction of each"] = predictions
    texts |= last_texts(records)
    if experiment.encoder and not left:
        texts["Seed examples"] = _seeds(experiment, folder)
    unfinished = f"Not finished: {left} of {left + len(done)} runs." if left else ""
    notes = [*filter(None, [unfinished, experiment.notes]), provenance.cost(records)]
    notes += provenance.about(records)
    whole = {name: by_source[levels.ALL] for name, by_source in simple.items()}
    drawn = levels.drawn(records, results, whole)
    details = provenance.config_differences(records)
    return Report(experiment.name, sheets, texts, notes, details, drawn)


def last_texts(records: Sequence[Record]) -> dict[str, str]:
    """Returns heading -> the last texts that the first run of each name has written."""
    texts: dict[str, list[str]] = defaultdict(list)
    for name, first in _first(records).items():
        newest = {line["name"]: line for line in writers.lines(first.folder / writers.TEXTS)}
        for heading, line in newest.items():
            indented = [f"  {text}" for text in line["text"].splitlines()]
            texts[heading.capitalize()] += [f"- **{name}** at step {line['step']:,}", *indented]
    return {heading: "\n".join(written) for heading, written in texts.items()}


def _first(records: Sequence[Record]) -> dict[str, Record]:
    """Returns the first record of each name."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.name, record)
    return first


def markdown(report: Report) -> str:
    """Renders the report as Markdown."""
    parts = [f"# {report.title}"]
    for sheet in report.sheets:
        parts += [f"## {sheet.title}", sheets.markdown(sheet), *filter(None, [sheet.note])]
    for title, text in report.texts.items():
        parts += [f"## {title}", text]
    return "\n\n".join([*parts, *report.notes]) + "\n"


# Pre-training


def _pretraining(records: Sequence[Record], methods: Mapping[str, Mapping[str, Reached]]) -> Sheet:
    """Tabulates metrics on held-out text; methods: folder name -> values of simple methods."""
    rows, parts = [], {}
    data = [["run", "positions_seen", "metric", "method", "method_value", "value"]]
    for record in records:
        train, name = record.config.train, record.folder.name
        seen = record.done["step"] * train.batch_size
        if train.eval_batches:
            parts[record.name] = f"{record.name} on the first {train.eval_batches:,} batches"
        for cells, own in _measured(record.metrics, methods[name][levels.ALL]):
            rows.append([name, f"{seen:,}", *cells])
            data.append([name, seen, *own])
    header = ["run", "positions seen", "metric", "baseline", "model"]
    note = f"Simple methods on all held-out text, {', '.join(parts.values())}." if parts else ""
    return Sheet("Pre-training, on held-out text", header, rows, note, "pretraining", data)


def _by_corpus(records: Sequence[Record], methods: Mapping[str, Mapping[str, Reached]]) -> Sheet:
    """Like `_pretraining`, for each source of the corpora alone."""
    rows, data = [], [["run", "source", "metric", "method", "method_value", "value"]]
    for record in records:
        name = record.folder.name
        for source, metrics in record.done.get("sources", {}).items():
            for cells, own in _measured(metrics, methods[name].get(source, {})):
                rows.append([name, source, *cells])
                data.append([name, source, *own])
    header = ["run", "source", "metric", "baseline", "model"]
    return Sheet("Held-out text of each source", header, rows, RULES, "sources", data)


def _measured(
    metrics: Mapping[str, float], simple: Reached
) -> Iterator[tuple[list[str], list[Any]]]:
    """Yields the last cells of a line, as text and as data, for each metric to show."""
    for key in filter(metrics.__contains__, METRICS):
        method, reached = simple.get(key, (None, None))
        beside = f"{reached:.4g} ({method})" if method else ""
        yield [METRICS[key], beside, f"{metrics[key]:.4g}"], [key, method, reached, metrics[key]]


# The table


def values(results: Results) -> Sheet:
    """Tabulates every run of the table, with mean and deviation over seeds."""
    table, measures = results.table, results.measures
    columns = [name for name in table.columns if name in measures]
    header = [""]
    for name in columns:
        arrow = "↓" if measures[name].lower_is_better else "↑"
        header.append(f"{measured(name, measures[name].metric)} {arrow}")
    rows = []
    if any(m.method for m in measures.values()):
        simple = [
            f"{number(m.simple)} ({readable(m.method)})" if m.method else ""
            for m in map(measures.get, columns)
        ]
        rows.append([SIMPLE, *simple])
    for row in table.rows:
        shown = []
        for name in columns:
            cell = results.cells.get((row, name))
            shown.append(spread(cell.units, mean(cell.units), cell.deviation) if cell else "")
        rows.append([row, *shown])
    return Sheet("Results", header, rows, LEGEND, "results", _values_data(results, columns))


def _values_data(results: Results, columns: Sequence[str]) -> list[list[Any]]:
    """Returns a line of data for each row and column, with the values of all seeds."""
    lines = [["row", "column", "metric", "method", "seeds", "mean", "sd", "values"]]
    for name in columns:
        measure = results.measures[name]
        if measure.method:
            value = measure.simple
            lines.append([SIMPLE, name, measure.metric, measure.method, None, value, None, None])
    for row in results.table.rows:
        for name in columns:
            if cell := results.cells.get((row, name)):
                units = cell.units
                numbers = [len(units), mean(units), cell.deviation, ";".join(map(str, units))]
                lines.append([row, name, results.measures[name].metric, None, *numbers])
    return lines


def differences(results: Results) -> Sheet:
    """Tabulates each difference to the baseline row, with its intervals and their reading."""
    rows = []
    for (row, name), gap in results.differences.items():
        measure = results.measures[name]
        p = results.ps[row, name]
        marked = "*" if statistics.significant(p) else ""
        rows.append(
            [
                measured(name, measure.metric),
                row,
                signed(gap.value) + marked,
                *map(interval, (gap.over_seeds, gap.over_examples, gap.over_both)),
                statistics.reading(gap, measure.lower_is_better, p),
            ]
        )
    header = ["", "row", "difference", "over seeds", "over test examples", "over both", "reading"]
    title = f"Differences to “{results.table.baseline}”"
    note, missing = INTERVALS, ", ".join(map(readable, results.uncompared))
    if missing:
        where = f"“{results.table.baseline}” has no finished run there"
        note = f"No differences in {missing}: the baseline row {where}. {note}"
    return Sheet(title, header, rows, note, "differences", _differences_data(results))


def _differences_data(results: Results) -> list[list[Any]]:
    """Returns a line of data for each difference, with the number of seeds of the row and of the
    baseline, and the simple method's own difference to the baseline."""
    header = ["column", "metric", "row", "baseline", "difference", "seeds", "baseline_seeds"]
    for kind in ("seeds", "examples", "both"):
        header += [f"{kind}_low", f"{kind}_high", f"{kind}_p"]
    header += ["p", "p_holm", "significant", "reading", "method", "method_difference"]
    lines = [header]
    for (row, name), difference in results.differences.items():
        measure, p = results.measures[name], results.ps[row, name]
        gaps = (difference.over_seeds, difference.over_examples, difference.over_both)
        method = (None, None)
        if measure.method:
            baseline = mean(results.cells[results.table.baseline, name].units)
            method = (measure.method, measure.simple - baseline)
        lines.append(
            [
                *(name, measure.metric, row, results.table.baseline),
                *(difference.value, *difference.seeds),
                *(n for gap in gaps for n in ((*gap.interval, gap.p) if gap else [None] * 3)),
                *(difference.p, p, statistics.significant(p)),
                *(statistics.reading(difference, measure.lower_is_better, p), *method),
            ]
        )
    return lines


def interval(gap: Gap | None) -> str:
    """Formats an interval as "[+0.010, +0.020]", or "" without one."""
    return f"[{', '.join(map(signed, gap.interval))}]" if gap else ""


def measured(column: str, metric: str) -> str:
    """Returns the column's name, followed by its metric unless the name contains it."""
    name, metric = readable(column), readable(metric)
    return name if metric in name else f"{name}, {metric}"


def readable(name: str) -> str:
    """Returns a name with spaces instead of underscores."""
    return name.replace("_", " ")


def samples(results: Results, records: Sequence[Record]) -> str:
    """Returns each row's prediction for one test example of each task, as a Markdown list."""
    lines, seen = [], set()
    first = _first(records)
    for name, (task, examples) in results.tasks.items():
        cells = {row: c for (row, column), c in results.cells.items() if column == name}
        if tuple(c.run for c in cells.values()) in seen:
            continue
        seen.add(tuple(c.run for c in cells.values()))
        shown = {
            row: [
                task.show(e, line["prediction"])
                for e, line in zip(examples[:SHOWN], first[c.run].scores, strict=False)
            ]
            for row, c in cells.items()
        }
        # Choose an example that fits in a line or two.
        last = list(shown.values())[-1]
        chosen = min(range(len(last)), key=lambda i, last=last: abs(len(last[i]) - 200))
        lines.append(f"- **{name}**")
        lines += [f"  - {row}: {' '.join(texts[chosen].split())}" for row, texts in shown.items()]
    return "\n".join(lines)


# Seed examples


def _seeds(experiment: Experiment, folder: Path) -> str:
    encoder = load_model(checkpoint_of(experiment.encoder, folder, experiment.runs))
    decoder = load_model(checkpoint_of(experiment.decoder, folder, experiment.runs))
    return "\n".join(
        [
            f"- {predictor.show_text(encoder, {'text': MASKED})}",
            f"- {predictor.show_text(encoder, {'text_a': PAIR[0], 'text_b': PAIR[1]})}",
            f"- {PROMPT}{predictor.continuation(decoder, PROMPT)}",
        ]
    )

"""The report of an experiment: its table, differences with their intervals, predictions, cost."""

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

SHOWN = 20  # test examples of which one is shown
SIMPLE = "simple method"  # the name of its row
LEGEND = (
    "Mean ± standard deviation over seeds (their number); where pre-trainings have several seeds, "
    "over these, the fine-tunings from each averaged. Seeds of the fine-tuning alone say nothing "
    "of other pre-trainings: rows from different ones are not compared over them."
)
INTERVALS = (
    "95 % intervals: over seeds by Welch's t, as if there were no other test examples; over test "
    "examples, those of one document together, by the paired jackknife, as if there were no other "
    "seeds; over both by the sum of the two variances. A column without test examples says nothing "
    "of other held-out text. * is significant by all intervals of the line, with at least 5 seeds: "
    "the largest p is below 0.05 after Holm's correction for all lines of this table with so many "
    "seeds; only such a line is called better or worse. Perhaps: no interval has 0 in it, but no "
    "star; this is not corrected, so that up to one of twenty differences that do not exist is "
    "read so. Not resolved: an interval has 0 in it, or they lie on different sides of it. One "
    "seed: nothing is known of others."
)
RULES = (
    "Next sentences: the baseline is the best of some rules that do not read: of the sources, the "
    "two lengths, or which tokens stand in A and in B, fitted to the training pairs."
)
METRICS = {  # of a pre-training
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
    """title; tables; texts by their headings; notes at the end.

    details, curves: tables, and what `curves.of_runs` makes, that the page has and the Markdown
        does not.
    """

    title: str
    sheets: Sequence[Sheet]
    texts: Mapping[str, str]
    notes: Sequence[str]
    details: Sequence[Sheet] = ()
    curves: Mapping[str, Any] = dataclasses.field(default_factory=lambda: curves.of_runs([]))


def of_experiment(experiment: Experiment, done: list[Job], folder: Path, left: int = 0) -> Report:
    """The report of an experiment.

    Args:
        done: the jobs that are finished; left: how many more there are.
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
    whole = {name: found[levels.ALL] for name, found in simple.items()}
    drawn = levels.drawn(records, results, whole)
    details = provenance.config_differences(records)
    return Report(experiment.name, sheets, texts, notes, details, drawn)


def last_texts(records: Sequence[Record]) -> dict[str, str]:
    """The last texts that the first run of each name has written, by their heading."""
    texts: dict[str, list[str]] = defaultdict(list)
    for name, first in _first(records).items():
        newest = {line["name"]: line for line in writers.lines(first.folder / writers.TEXTS)}
        for heading, line in newest.items():
            indented = [f"  {text}" for text in line["text"].splitlines()]
            texts[heading.capitalize()] += [f"- **{name}** at step {line['step']:,}", *indented]
    return {heading: "\n".join(written) for heading, written in texts.items()}


def _first(records: Sequence[Record]) -> dict[str, Record]:
    """The first of each name."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.name, record)
    return first


def markdown(report: Report) -> str:
    """The report as one text."""
    parts = [f"# {report.title}"]
    for sheet in report.sheets:
        parts += [f"## {sheet.title}", sheets.markdown(sheet), *filter(None, [sheet.note])]
    for title, text in report.texts.items():
        parts += [f"## {title}", text]
    return "\n\n".join([*parts, *report.notes]) + "\n"


# Pre-training


def _pretraining(records: Sequence[Record], methods: Mapping[str, Mapping[str, Reached]]) -> Sheet:
    """methods: what simple ones reach, by the names of the runs' folders."""
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
    """The same of each source of the corpora alone."""
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
    """The last cells of a line, and the same for programs, of each metric that is shown."""
    for key in filter(metrics.__contains__, METRICS):
        method, reached = simple.get(key, (None, None))
        beside = f"{reached:.4g} ({method})" if method else ""
        yield [METRICS[key], beside, f"{metrics[key]:.4g}"], [key, method, reached, metrics[key]]


# The table


def values(results: Results) -> Sheet:
    """Every run of the table, mean and deviation over seeds."""
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
    """A line for each row and column; values are those of the seeds that mean and sd are over."""
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
    """Each difference to the baseline row, with its intervals and what they say."""
    rows = []
    for (row, name), found in results.differences.items():
        measure = results.measures[name]
        p = results.ps[row, name]
        marked = "*" if statistics.significant(p) else ""
        rows.append(
            [
                measured(name, measure.metric),
                row,
                signed(found.value) + marked,
                *map(interval, (found.over_seeds, found.over_examples, found.over_both)),
                statistics.reading(found, measure.lower_is_better, p),
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
    """A line for each difference; seeds of the row and of the baseline. The difference of the
    simple method is to the baseline too."""
    header = ["column", "metric", "row", "baseline", "difference", "seeds", "baseline_seeds"]
    for kind in ("seeds", "examples", "both"):
        header += [f"{kind}_low", f"{kind}_high", f"{kind}_p"]
    header += ["p", "p_holm", "significant", "reading", "method", "method_difference"]
    lines = [header]
    for (row, name), found in results.differences.items():
        measure, p = results.measures[name], results.ps[row, name]
        gaps = (found.over_seeds, found.over_examples, found.over_both)
        method = (None, None)
        if measure.method:
            baseline = mean(results.cells[results.table.baseline, name].units)
            method = (measure.method, measure.simple - baseline)
        lines.append(
            [
                *(name, measure.metric, row, results.table.baseline, found.value, *found.seeds),
                *(n for gap in gaps for n in ((*gap.interval, gap.p) if gap else [None] * 3)),
                *(found.p, p, statistics.significant(p)),
                *(statistics.reading(found, measure.lower_is_better, p), *method),
            ]
        )
    return lines


def interval(gap: Gap | None) -> str:
    """ "[+0.010, +0.020]", or nothing."""
    return f"[{', '.join(map(signed, gap.interval))}]" if gap else ""


def measured(column: str, metric: str) -> str:
    """The column's name, with its metric where it does not say it."""
    name, metric = readable(column), readable(metric)
    return name if metric in name else f"{name}, {metric}"


def readable(name: str) -> str:
    """A name as it is written in a text."""
    return name.replace("_", " ")


def samples(results: Results, records: Sequence[Record]) -> str:
    """What each row predicts for one test example of each task."""
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
        # One that is short enough to be read in a line or two.
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

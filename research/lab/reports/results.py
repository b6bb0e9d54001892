"""What the runs of a table have measured: values by seed, and differences to the baseline."""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np

from research.checkpoints.reading import read_info
from research.config import Config, of_checkpoint
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.lab.methods import baselines
from research.lab.record import DONE, SCORED, Record
from research.lab.reports import statistics
from research.lab.reports.statistics import Difference
from research.lab.table import METHODS, Column, Table
from research.metrics.counts import Counts, total
from research.metrics.jackknife import paired_jackknife
from research.run import corpus
from research.run.best import LOWER_IS_BETTER
from research.tasks import make_task
from research.tasks.task import Example, Task

Place = tuple[str, str]  # row and column
Tasks = Mapping[str, tuple[Task, list[Example]]]  # column -> its task, with its test examples


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run's values of one metric.

    values: by the seeds of its jobs; counts: of each test example, for each job (none of a
    pre-training); starts: the checkpoints whose weights its jobs have begun with.
    """

    run: str
    values: dict[tuple[int, ...], float]
    counts: Sequence[list[Counts]]
    starts: frozenset[str] = frozenset()

    @property
    def units(self) -> list[float]:
        """A value for each seed. Where pre-trainings have seeds too, they are what is counted, and
        the fine-tunings from one are averaged: they do not say how much a pre-training varies."""
        by_start = defaultdict(list)
        for seeds, value in self.values.items():
            by_start[seeds[0]].append(value)
        return [mean(values) for values in by_start.values()]

    def beside(self, other: "Cell") -> list[float]:
        """The units when compared with another cell. Where each has begun with another
        pre-training, of which there is one, that is one unit: seeds of the fine-tuning do not say
        how another pre-training of the same kind would have done."""
        apart = other.starts and self.starts.isdisjoint(other.starts)
        return [mean(self.units)] if len(self.starts) == 1 and apart else self.units

    @property
    def deviation(self) -> float | None:
        """Between seeds; None where there is one."""
        if len(self.units) < 2:
            return None
        with np.errstate(invalid="ignore"):  # of a loss that is infinite
            return float(np.std(self.units, ddof=1))


@dataclasses.dataclass(frozen=True)
class Measure:
    """What a column shows: a metric, whether less is better, and its simple method's value, on the
    test split and on that of validation."""

    metric: str
    lower_is_better: bool
    method: str = ""
    simple: float | None = None
    on_validation: float | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """A table with its numbers. differences: to the baseline row; ps: of these, corrected for all
    of them."""

    table: Table
    cells: dict[Place, Cell]
    measures: dict[str, Measure]
    differences: dict[Place, Difference]
    ps: dict[Place, float | None]
    tasks: Tasks

    @property
    def uncompared(self) -> list[str]:
        """The columns in which other rows have values and the baseline row has none."""
        names = dict.fromkeys(name for _, name in self.cells) if self.table.baseline else {}
        return [name for name in names if (self.table.baseline, name) not in self.cells]


def collect(table: Table, records: Sequence[Record], split: str = "test") -> Results:
    """What runs have measured; a run of which there is no record has no cell, and a column without
    any has no measure.

    split: "test", on which tasks were scored (pre-trainings have held-out text alone), or
        "validation", of which the last evaluation is taken.
    """
    cells, measures, tasks = {}, {}, {}
    by_run = defaultdict(list)
    for record in records:
        by_run[record.name].append(record)
    for name, column in table.columns.items():
        runs = {
            row: by_run[own[name]] for row, own in table.rows.items() if own.get(name) in by_run
        }
        if not runs:
            continue
        first = next(iter(runs.values()))[0]
        if split == "validation" or first.config.task is None:
            metric = column.metric
            measures[name] = Measure(metric, metric.endswith(LOWER_IS_BETTER))
            for row, same in runs.items():
                values = {r.seeds: r.metrics[metric] for r in same if metric in r.metrics}
                cells[row, name] = _cell(same, values)
            continue
        task, tokenizer = _task_of(first)
        examples = corpus.split(first.config.data, task.kind, "test").examples
        tasks[name] = (task, examples)
        measures[name] = _measure(column, task, first.config, examples, tokenizer)
        for row, same in runs.items():
            counts = {record.seeds: _counts(record, len(examples)) for record in same}
            metric = measures[name].metric
            values = {
                seeds: task.compute_metrics(total(own))[metric] for seeds, own in counts.items()
            }
            cells[row, name] = _cell(same, values, list(counts.values()))
    return compare(table, cells, measures, tasks)


def compare(
    table: Table, cells: dict[Place, Cell], measures: dict[str, Measure], tasks: Tasks
) -> Results:
    """The differences of all cells to those of the baseline row, where it has one."""
    differences = {
        (row, name): _difference(cell, cells[table.baseline, name], measures[name], tasks.get(name))
        for (row, name), cell in cells.items()
        if row != table.baseline and (table.baseline, name) in cells
    }
    ps = statistics.corrected(list(differences.values()))
    return Results(
        table, cells, measures, differences, dict(zip(differences, ps, strict=True)), tasks
    )


def _cell(
    records: Sequence[Record],
    values: dict[tuple[int, ...], float],
    counts: Sequence[list[Counts]] = (),
) -> Cell:
    starts = frozenset(record.start for record in records) - {""}
    return Cell(records[0].name, values, counts, starts)


def _counts(record: Record, examples: int) -> list[Counts]:
    """Of each test example. Raises UserError where there are not as many as `examples`."""
    counts = [line["counts"] for line in record.scores]
    if len(counts) != examples:
        raise UserError(
            f"{record.folder / SCORED} has {len(counts):,} lines for {examples:,} test examples: "
            f"it is damaged, or the data is not what it was; remove {record.folder / DONE}, and "
            "the run is scored again"
        )
    return counts


def _difference(
    cell: Cell, baseline: Cell, measure: Measure, scored: tuple[Task, list[Example]] | None
) -> Difference:
    gap = None
    if scored is not None and len(scored[1]) > 1:
        task, examples = scored
        ours, theirs = (
            [by_document(counts, examples) for counts in c.counts] for c in (cell, baseline)
        )
        gap = paired_jackknife(ours, theirs, task.compute_metrics, measure.metric)
    return statistics.difference(cell.beside(baseline), baseline.beside(cell), gap)


def document_of(example: Example) -> str:
    """What the test examples that are alike share: the title of a text that questions are asked
    about, or the id, which sentences of one document have in common. An id that was made from a
    line of a file is that line's alone, so examples that name no document stay by themselves."""
    return example.get("title") or example["id"]


def by_document(counts: list[Counts], examples: list[Example]) -> list[Counts]:
    """The counts of each example summed over its document; as they are where all are of one."""
    found = defaultdict(list)
    for example, count in zip(examples, counts, strict=True):
        found[document_of(example)].append(count)
    return list(map(total, found.values())) if len(found) > 1 else counts


def _measure(
    column: Column, task: Task, config: Config, examples: list[Example], tokenizer: Tokenizer
) -> Measure:
    metric = column.metric or task.metric
    lower = metric.endswith(LOWER_IS_BETTER)
    if not column.method:
        return Measure(metric, lower)
    both = [*examples, *corpus.split(config.data, task.kind, "validation").examples]
    counts = _by_method(column.method, task, config, both, tokenizer)
    parts = counts[: len(examples)], counts[len(examples) :]
    reached = [task.compute_metrics(total(part))[metric] for part in parts]
    return Measure(metric, lower, column.method, *reached)


def _task_of(record: Record) -> tuple[Task, Tokenizer]:
    """The task of a finished run and its tokenizer; no weight is read."""
    config, trained = record.config, record.trained
    info = read_info(str(record.folder if trained else config.init_from))
    own = of_checkpoint(info.config, str(record.folder))
    config = own if trained else dataclasses.replace(config, model=own.model)
    tokenizer = Tokenizer.from_json(info.tokenizer_json)
    sizes = (config.data.length, config.data.segments)
    return make_task(config.task, config.model, tokenizer, *sizes), tokenizer


def _by_method(
    method: str, task: Task, config: Config, examples: list[Example], tokenizer: Tokenizer
) -> list[Counts]:
    """The counts of the simple method, fitted to the same training examples, of each example."""
    train = corpus.split(config.data, task.kind, "train").examples
    if method != "bigram":
        return METHODS[method].function(train, examples).counts
    rows = [r for e in train for r in _completion_rows(task, e, whole=True)]
    test = [_completion_rows(task, example, whole=False) for example in examples]
    every = [row for own in test for row in own]
    sizes = [float(s.target_bytes.sum()) for e in examples for s in task.segments(e, 0, True)]
    counts = iter(baselines.bigram(rows, every, sizes, tokenizer.vocab_size).counts)
    return [total(itertools.islice(counts, len(own))) for own in test]


def _completion_rows(task: Task, example: Example, whole: bool) -> list[np.ndarray]:
    """Token rows of an example: all of it, or from the token before the completion on."""
    found = []
    for segment in task.segments(example, 0, True):
        first = 0 if whole else int(np.argmax(segment.target_weights > 0))
        found.append(np.concatenate([segment.tokens[first : first + 1], segment.targets[first:]]))
    return found

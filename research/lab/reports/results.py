"""Collects the results of a table's runs: values by seed, and differences to the baseline."""

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
Tasks = Mapping[str, tuple[Task, list[Example]]]  # column -> its task and test examples


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run's values of one metric.

    values: seeds of a job -> its value; counts: for each job the counts of each test example (empty
    for a pre-training); starts: the checkpoints whose weights its jobs started with.
    """

    run: str
    values: dict[tuple[int, ...], float]
    counts: Sequence[list[Counts]]
    starts: frozenset[str] = frozenset()

    @property
    def units(self) -> list[float]:
        """One value per seed. If pre-trainings have several seeds, one value per pre-training, the
        mean of its fine-tunings: these do not show how much a pre-training varies."""
        by_start = defaultdict(list)
        for seeds, value in self.values.items():
            by_start[seeds[0]].append(value)
        return [mean(values) for values in by_start.values()]

    def beside(self, other: "Cell") -> list[float]:
        """Returns the units for a comparison with another cell. If the cells start from different
        pre-trainings and this one has a single pre-training, that is one unit: seeds of the
        fine-tuning do not show how another pre-training of the same kind would have done."""
        apart = other.starts and self.starts.isdisjoint(other.starts)
        return [mean(self.units)] if len(self.starts) == 1 and apart else self.units

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the units; None if there is only one."""
        if len(self.units) < 2:
            return None
        with np.errstate(invalid="ignore"):  # a loss may be infinite
            return float(np.std(self.units, ddof=1))


@dataclasses.dataclass(frozen=True)
class Measure:
    """A column's metric, whether lower is better, and the values of its simple method: `simple` on
    the test split, `on_validation` on the validation split."""

    metric: str
    lower_is_better: bool
    method: str = ""
    simple: float | None = None
    on_validation: float | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """A table with its values. differences: to the baseline row; ps: their p-values, corrected for
    the number of differences."""

    table: Table
    cells: dict[Place, Cell]
    measures: dict[str, Measure]
    differences: dict[Place, Difference]
    ps: dict[Place, float | None]
    tasks: Tasks

    @property
    def uncompared(self) -> list[str]:
        """The columns with values in which the baseline row has none."""
        names = dict.fromkeys(name for _, name in self.cells) if self.table.baseline else {}
        return [name for name in names if (self.table.baseline, name) not in self.cells]


def collect(table: Table, records: Sequence[Record], split: str = "test") -> Results:
    """Collects the results of runs. A run without a record gets no cell; a column without any
    record gets no measure.

    split: "test", the scores of tasks (pre-trainings only have held-out text), or "validation",
        the last evaluation.
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
    """Compares all cells with the baseline row's cell of the same column, if it has one."""
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
    """Returns the counts of each test example. Raises UserError if there are not `examples`."""
    counts = [line["counts"] for line in record.scores]
    if len(counts) != examples:
        raise UserError(
            f"{record.folder / SCORED} has {len(counts):,} lines for {examples:,} test examples: "
            f"it is damaged, or the data has changed; remove {record.folder / DONE} to score the "
            "run again"
        )
    return counts


def _difference(
    cell: Cell, baseline: Cell, measure: Measure, scored: tuple[Task, list[Example]] | None
) -> Difference:
    gap = None
    if scored is not None and len(scored[1]) > 1:
        task, examples = scored
        counts, others = (
            [by_document(counts, examples) for counts in c.counts] for c in (cell, baseline)
        )
        gap = paired_jackknife(counts, others, task.compute_metrics, measure.metric)
    return statistics.difference(cell.beside(baseline), baseline.beside(cell), gap)


def document_of(example: Example) -> str:
    """Returns the document of a test example: the title of the text that a question asks about, or
    the id, which sentences of one document share. An id made from a line of a file is unique to
    that line, so an example that names no document is its own document."""
    return example.get("title") or example["id"]


def by_document(counts: list[Counts], examples: list[Example]) -> list[Counts]:
    """Sums the counts of examples by document; returns them unchanged if there is only one."""
    documents = defaultdict(list)
    for example, count in zip(examples, counts, strict=True):
        documents[document_of(example)].append(count)
    return list(map(total, documents.values())) if len(documents) > 1 else counts


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
    """Returns the task and the tokenizer of a finished run, without reading weights."""
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
    """Fits a simple method to the run's training examples; returns its counts of each example."""
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
    """Returns token rows of an example, whole or from the token before the completion on."""
    rows = []
    for segment in task.segments(example, 0, True):
        first = 0 if whole else int(np.argmax(segment.target_weights > 0))
        rows.append(np.concatenate([segment.tokens[first : first + 1], segment.targets[first:]]))
    return rows

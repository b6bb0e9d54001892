"""What the runs of a table have measured: values by seed, and differences to the baseline."""

import dataclasses
import itertools
from collections import defaultdict
from statistics import mean
from typing import Any

import numpy as np

from research.checkpoints.reading import read_info
from research.config import of_checkpoint
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.evaluation import predictor
from research.experiments import baselines, statistics
from research.experiments.experiment import Job
from research.experiments.job import DONE, SCORED, finished, scored
from research.experiments.statistics import Difference
from research.experiments.table import METHODS, Column, Table
from research.metrics.counts import Counts, total
from research.metrics.jackknife import paired_jackknife
from research.run import corpus
from research.run.best import LOWER_IS_BETTER
from research.tasks import make_task
from research.tasks.task import Example, Task

Place = tuple[str, str]  # row and column


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run's values of one metric.

    values: by the seeds of its jobs; counts: of each test example, for each job (none of a
    pre-training); starts: the checkpoints whose weights its jobs have begun with.
    """

    run: str
    values: dict[tuple[int, ...], float]
    counts: list[list[Counts]]
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
    tasks: dict[str, tuple[Job, Task, list[Example]]]  # column -> one job, with its test examples

    @property
    def uncompared(self) -> list[str]:
        """The columns in which other rows have values and the baseline row has none."""
        names = dict.fromkeys(name for _, name in self.cells) if self.table.baseline else {}
        return [name for name in names if (self.table.baseline, name) not in self.cells]


def collect(table: Table, planned: list[Job]) -> Results:
    """Reads what finished jobs have left behind; a run of which there is none has no cell, and a
    column without any has no measure."""
    cells, measures, tasks = {}, {}, {}
    by_run = defaultdict(list)
    for job in planned:
        by_run[job.run].append(job)
    for name, column in table.columns.items():
        rows = [(row, found.get(name)) for row, found in table.rows.items()]
        rows = [(row, run) for row, run in rows if run in by_run]
        if not rows:
            continue
        first = by_run[rows[0][1]][0]
        task, examples, tokenizer = None, [], None
        if first.config.task is not None:
            task, tokenizer = task_of(first)
            examples = predictor.split_examples(first.config, task, "test")
            tasks[name] = (first, task, examples)
        measures[name] = _measure(column, task, first.config, examples, tokenizer)
        for row, run in rows:
            cells[row, name] = _cell(run, by_run[run], measures[name].metric, task, len(examples))
    return compare(table, cells, measures, tasks)


def compare(
    table: Table,
    cells: dict[Place, Cell],
    measures: dict[str, Measure],
    tasks: dict[str, tuple[Job, Task, list[Example]]],
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


def _cell(run: str, jobs: list[Job], metric: str, task: Task | None, examples: int) -> Cell:
    configs = [job.config for job in jobs]
    starts = frozenset(started_from(c.init_from, c.init) for c in configs) - {""}
    if task is None:
        values = {job.seeds: finished(job)["metrics"][metric] for job in jobs}
        return Cell(run, values, [], starts)
    counts = [[line["counts"] for line in scored(job)] for job in jobs]
    for job, found in zip(jobs, counts, strict=True):
        if len(found) != examples:
            raise UserError(
                f"{job.workdir / SCORED} has {len(found):,} lines for {examples:,} test examples: "
                f"it is damaged, or the data is not what it was; remove {job.workdir / DONE}, and "
                "the run is scored again"
            )
    values = [task.finish(total(found))[metric] for found in counts]
    return Cell(run, {job.seeds: v for job, v in zip(jobs, values, strict=True)}, counts, starts)


def started_from(init_from: str, init: str) -> str:
    """The checkpoint whose weights a run begins with; "" for new ones."""
    return init_from if init == "restore" else ""


def _difference(
    cell: Cell, baseline: Cell, measure: Measure, found: tuple[Job, Task, list[Example]] | None
) -> Difference:
    gap = None
    if found is not None and len(found[2]) > 1:
        _, task, examples = found
        ours, theirs = (
            [by_document(counts, examples) for counts in c.counts] for c in (cell, baseline)
        )
        gap = paired_jackknife(ours, theirs, task.finish, measure.metric)
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
    column: Column,
    task: Task | None,
    config: Any,
    examples: list[Example],
    tokenizer: Tokenizer | None,
) -> Measure:
    metric = column.metric or task.metric
    lower = metric.endswith(LOWER_IS_BETTER)
    if not column.method:
        return Measure(metric, lower)
    both = [*examples, *predictor.split_examples(config, task, "validation")]
    counts = _by_method(column.method, task, config, both, tokenizer)
    parts = counts[: len(examples)], counts[len(examples) :]
    reached = [task.finish(total(part))[metric] for part in parts]
    return Measure(metric, lower, column.method, *reached)


def task_of(job: Job) -> tuple[Task, Tokenizer]:
    """The task of a finished job and its tokenizer; no weight is read."""
    info = read_info(str(job.workdir if job.train else job.config.init_from))
    own = of_checkpoint(info.config, str(job.workdir))
    config = own if job.train else dataclasses.replace(job.config, model=own.model)
    tokenizer = Tokenizer.from_json(info.tokenizer_json)
    sizes = (config.data.length, config.data.slots)
    return make_task(config.task, config.model, tokenizer, *sizes), tokenizer


def _by_method(
    method: str, task: Task, config: Any, examples: list[Example], tokenizer: Tokenizer
) -> list[Counts]:
    """The counts of the simple method, fitted to the same training examples, of each example."""
    train = corpus.split(config, "train").examples
    if method != "bigram":
        return METHODS[method].function(train, examples).counts
    rows = [r for e in train for r in _completion_rows(task, e, whole=True)]
    test = [_completion_rows(task, example, whole=False) for example in examples]
    every = [row for own in test for row in own]
    sizes = [float(s.target_bytes.sum()) for e in examples for s in task.slots(e, 0, True)]
    counts = iter(baselines.bigram(rows, every, sizes, tokenizer.vocab_size).counts)
    return [total(itertools.islice(counts, len(own))) for own in test]


def _completion_rows(task: Task, example: Example, whole: bool) -> list[np.ndarray]:
    """Token rows of an example: all of it, or from the token before the completion on."""
    found = []
    for slot in task.slots(example, 0, True):
        first = 0 if whole else int(np.argmax(slot.target_weights > 0))
        found.append(np.concatenate([slot.tokens[first : first + 1], slot.targets[first:]]))
    return found

"""The results table of an experiment: its rows, its columns, and the baseline row."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from research import tasks
from research.config import Config
from research.errors import UserError, nearest
from research.lab.methods import baselines
from research.objectives import measures
from research.run import corpus
from research.tasks import sequence_classification, text_generation, token_classification


class Method(NamedTuple):
    """A simple method. If not empty: `task`, the name of the only task that it handles, and `kind`,
    the kind of examples that it reads."""

    function: Callable[..., baselines.Result]
    task: str = ""
    kind: str = ""


# A table shows them in its first row.
METHODS = {
    "linear": Method(baselines.linear, sequence_classification.NAME, "classification"),
    "linear_svm": Method(baselines.linear_svm, sequence_classification.NAME, "classification"),
    "frequent_tag": Method(baselines.frequent_tag, token_classification.NAME, "tokens"),
    "overlapping_sentence": Method(baselines.overlapping_sentence, kind="question"),
    "bigram": Method(baselines.bigram, text_generation.NAME),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """A metric of the runs below it.

    metric: a task's metric on its test split ("" for the task's main one), or a pre-training's on
        its held-out text.
    method: the simple method of `METHODS` to show beside a task's runs.
    """

    metric: str = ""
    method: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """rows: name of each variant -> column -> the run to measure there.

    columns: name -> column, in the order of the table.
    baseline: the row to compare the others with; "" for no comparison.
    """

    rows: Mapping[str, Mapping[str, str]]
    columns: Mapping[str, Column]
    baseline: str = ""

    def runs(self) -> list[str]:
        """Returns the names of all runs in the table, each once."""
        return list(dict.fromkeys(run for row in self.rows.values() for run in row.values()))


def check(table: Table, configs: Mapping[str, Config]) -> None:
    """Raises UserError for an unknown name, or a metric that a run does not yield.

    configs: configs of all runs of the experiment.
    """
    if table.baseline and table.baseline not in table.rows:
        raise UserError(
            f"the table compares with {table.baseline!r}, which is not a row"
            f"{nearest(table.baseline, table.rows)}"
        )
    for name, column in table.columns.items():
        if column.method and column.method not in METHODS:
            raise UserError(
                f"column {name!r}: no simple method {column.method!r}"
                f"{nearest(column.method, METHODS)}"
            )
    for label, row in table.rows.items():
        for name, run in row.items():
            place = f"row {label!r}, column {name!r}"
            if name not in table.columns:
                raise UserError(f"row {label!r}: no column {name!r}{nearest(name, table.columns)}")
            if run not in configs:
                raise UserError(f"{place}: no run {run!r}{nearest(run, configs)}")
            _check_metric(place, run, table.columns[name], configs[run])
    for name in table.columns:
        if not any(name in row for row in table.rows.values()):
            raise UserError(f"column {name!r}: no row has a run there")
        _check_alike(name, [configs[row[name]] for row in table.rows.values() if name in row])
    others = {n for label, row in table.rows.items() if label != table.baseline for n in row}
    if table.baseline and others and others.isdisjoint(table.rows[table.baseline]):
        raise UserError(
            f"the table compares with {table.baseline!r}, which has no run in any column of the "
            f"other rows: {', '.join(sorted(others))}"
        )


def _check_alike(column: str, measured: list[Config]) -> None:
    """Raises UserError if the runs of a column are measured on different data."""
    if measured[0].task is None:
        what = "held-out text"
        tests = {
            f"{c.data.held_out_percent:g} % of {', '.join(s.name for s in c.data.corpus)}, "
            f"config.train.eval_batches={c.train.eval_batches}"
            + (f" of {c.train.batch_size} positions" if c.train.eval_batches else "")
            for c in measured
        }
    else:
        what = "test examples"
        tests = {repr((c.task is None, c.data.source("test"))) for c in measured}
    if len(tests) > 1:
        raise UserError(
            f"column {column!r}: its runs are not measured on the same {what}: "
            f"{' and '.join(sorted(tests))}"
        )


def _check_metric(place: str, run: str, column: Column, config: Config) -> None:
    config = corpus.with_labels(config)
    known = metrics(config)
    if config.task is None and (column.method or not column.metric):
        what = "a metric of its held-out text" if not column.metric else "no simple method"
        raise UserError(f"{place}: {run!r} is a pre-training, whose column needs {what}")
    metric, _, part = column.metric.partition("/")  # "f1/PER": the F1 of one entity type
    parts = _parts(config)
    if metric and (metric not in known or (part and part not in parts)):
        known = [*known, *(f"{metric}/{part}" for part in parts if metric in known)]
        raise UserError(
            f"{place}: {run!r} does not yield {column.metric!r}{nearest(column.metric, known)}"
        )
    if column.method and not _fits(column.method, config):
        fit = [method for method in METHODS if _fits(method, config)]
        raise UserError(
            f"{place}: the simple method {column.method!r} is not for the task of {run!r}; "
            f"those that are: {', '.join(fit) or 'none'}"
        )


def _fits(method: str, config: Config) -> bool:
    _, name, kind = METHODS[method]
    task = config.task
    return name in ("", tasks.name_of(task)) and kind in ("", tasks.kind_of(task))


def _parts(config: Config) -> list[str]:
    """Returns the parts of a task's data for which it also reports its metrics."""
    if config.task is None:
        return []
    if tasks.kind_of(config.task) == "tokens":
        kinds = (label.partition("-")[2] for label in config.task.labels)
        return list(dict.fromkeys(filter(None, kinds)))
    return ["answerable", "unanswerable"] if getattr(config.task, "unanswerable", False) else []


def metrics(config: Config) -> Collection[str]:
    """Returns the names of the metrics that a run's evaluation yields."""
    if config.task is None:
        return measures(config.objective)
    return tasks.metrics(config.task)

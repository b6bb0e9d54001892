"""An experiment: runs by name, what each starts from, and the table that is made of them.

An experiment file (configs/experiments/…) has `get_experiment(arg="") -> Experiment`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research import bucket
from research import config as configs
from research.config import Config
from research.data import sources
from research.errors import UserError, nearest
from research.experiments import baselines
from research.training.checkpoint import read_info

PUBLIC = ".cache/public/"  # where the Makefile puts public weights


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, repeated for each seed.

    config: "FILE.py:arg"; overrides: "group.key" -> value.
    start: the run whose checkpoint it starts from, or the path of a checkpoint.
    fresh: only the shape and the tokenizer of `start` are taken, the weights are new.
    train: False scores the weights of `start` as they are, on the config's task.
    """

    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: str = ""
    fresh: bool = False
    seeds: tuple[int, ...] = (0,)
    train: bool = True


@dataclasses.dataclass(frozen=True)
class Row:
    """One task of the table: the runs compared, and the baseline's name in `BASELINES`.

    metrics: those that are shown, a line each; the task's own one where none is named.
    """

    task: str
    pretrained: str
    scratch: str
    baseline: str
    metrics: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Runs in the order in which they are made, and what the report shows of them.

    pretraining: runs whose held-out losses are shown beside n-gram models.
    rows: the tasks of the table.
    encoder, decoder: checkpoints or runs that fill in the seed examples.
    notes: what a reader of the table has to know about its data.
    sides: what the table calls the two runs of a row.
    """

    name: str
    runs: Mapping[str, Run]
    pretraining: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    encoder: str = ""
    decoder: str = ""
    notes: str = ""
    sides: tuple[str, str] = ("from scratch", "from the checkpoint")


@dataclasses.dataclass(frozen=True)
class Job:
    """A run with a seed: what is trained, where, and the workdir of the run it starts from.

    train: see `Run`.
    """

    run: str
    seed: int
    config: Config
    workdir: Path
    after: Path | None
    train: bool = True


BASELINES = {
    "linear": baselines.linear,
    "linear_svm": baselines.linear_svm,
    "frequent_tag": baselines.frequent_tag,
    "overlapping_sentence": baselines.overlapping_sentence,
    "bigram": baselines.bigram,
}


def load(spec: str) -> Experiment:
    """The experiment of "FILE.py:arg". Raises UserError if it has none."""
    found = configs.call(spec, "get_experiment")
    if not isinstance(found, Experiment):
        raise UserError(f"{spec}: get_experiment(arg) returns a {type(found).__name__}")
    return found


def jobs(experiment: Experiment, folder: Path) -> list[Job]:
    """All jobs in an order in which each finds what it starts from, every config checked.

    Raises UserError for an unknown run or baseline, a cycle, and whatever is wrong in a config.
    """
    runs = experiment.runs
    for row in experiment.rows:
        for name in (row.pretrained, row.scratch):
            if name not in runs:
                raise UserError(f"the table names an unknown run {name!r}{nearest(name, runs)}")
        if row.baseline not in BASELINES:
            raise UserError(f"no baseline {row.baseline!r}{nearest(row.baseline, BASELINES)}")
    for name in experiment.pretraining:
        if name not in runs:
            raise UserError(f"pretraining names an unknown run {name!r}{nearest(name, runs)}")
    return [
        Job(
            name,
            seed,
            _config(runs[name], seed, folder, runs, name),
            workdir(folder, name, seed),
            _after(runs[name].start, folder, runs),
            runs[name].train,
        )
        for name in _ordered(runs)
        for seed in runs[name].seeds
    ]


def workdir(folder: Path, run: str, seed: int) -> Path:
    """Where a run with a seed is made."""
    return folder / f"{run}-seed{seed}"


def checkpoint_of(name: str, folder: Path, runs: Mapping[str, Run]) -> str:
    """The checkpoint that a run's name (its first seed's) or a path stands for."""
    return str(workdir(folder, name, runs[name].seeds[0])) if name in runs else name


def _after(start: str, folder: Path, runs: Mapping[str, Run]) -> Path | None:
    return workdir(folder, start, runs[start].seeds[0]) if start in runs else None


def _config(run: Run, seed: int, folder: Path, runs: Mapping[str, Run], name: str) -> Config:
    given = dict(run.overrides) | {"seed": seed}
    if not run.train and (run.fresh or not run.start):
        raise UserError(f"run {name!r}: train=False needs a start, and one that is not fresh")
    if run.start:
        if run.start not in runs and not bucket.path(run.start).is_dir():
            public = run.start.startswith(PUBLIC)
            near = f"; `make {run.start}` fetches it" if public else nearest(run.start, runs)
            raise UserError(
                f"run {name!r} starts from {run.start!r}, which is neither a run nor a folder{near}"
            )
        given |= {"init_from": checkpoint_of(run.start, folder, runs)}
        given |= {"init": "fresh" if run.fresh else "restore"}
    try:
        config = configs.load(run.config, given)
    except UserError as error:
        raise UserError(f"run {name!r}: {error}") from error
    if not run.train and config.task is None:
        raise UserError(f"run {name!r}: train=False needs a config with a task")
    return config


def _ordered(runs: Mapping[str, Run]) -> list[str]:
    done: list[str] = []
    open_: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in open_:
            raise UserError(f"runs start from each other: {' -> '.join([*open_, name])}")
        open_.append(name)
        if runs[name].start in runs:
            visit(runs[name].start)
        open_.remove(name)
        done.append(name)

    for name in runs:
        visit(name)
    return done


def fingerprint(job: Job) -> str:
    """Changes when a run's config, its data, or the checkpoint it starts from does."""
    config = job.config
    data = config.data
    used = [*data.corpus, data.train, data.validation, data.test]
    parts: dict[str, Any] = {
        "config": configs.to_values(config),
        "data": [sources.fingerprint(s) for s in used if s is not None],
    }
    if config.init_from:
        info = read_info(config.init_from)
        parts["start"] = [info.step, info.config, info.meta]
    if not job.train:
        parts["train"] = False
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

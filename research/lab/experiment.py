"""Experiments: named runs, the run or checkpoint that each starts from, and a table of results.

An experiment file (configs/experiments/…) has `get_experiment(arg="") -> Experiment`. Its runs are
plain Python: write loops and comprehensions, and use `product` to combine overrides.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from research import bucket
from research import config as configs
from research.checkpoints.reading import read_info
from research.config import Config
from research.config import file as config_file
from research.data import plan, sources, store
from research.errors import UserError, nearest
from research.lab import table as tables
from research.lab.table import Table
from research.run import corpus
from research.values import Name, Seed, convert

T = TypeVar("T")
MOVED = "research.experiments"  # the former name of this package, which older files import
PUBLIC = ".cache/public/"  # where the Makefile puts public weights
# Config key -> the field of a `Run` that sets it.
SET_BY = {"seed": "seeds", "init_from": "start", "init": "start and fresh"}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, repeated for each seed, and for each seed of the run that it starts from.

    config: "FILE.py:arg"; overrides: "group.key" -> value.
    start: the run whose checkpoint it starts from, or the path of a checkpoint.
    fresh: take only shape and tokenizer of `start`, with new weights.
    train: False: score the weights of `start` on the config's task, without training.
    """

    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: str = ""
    fresh: bool = False
    seeds: tuple[Seed, ...] = (0,)
    train: bool = True

    def check(self, where: str) -> None:
        """Raises UserError for fields that would silently have no effect."""
        check_keys(self.overrides, f"{where}: overrides")
        if self.fresh and not self.start:
            raise UserError(
                f"{where}: fresh=True needs a start, whose shape and tokenizer it takes"
            )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Runs in the order of their start, and what the report shows about them.

    pretraining: runs whose held-out losses are shown beside n-gram models.
    table: which metrics of which runs to show.
    encoder, decoder: checkpoints or runs that complete the seed examples.
    notes: remarks on the data for readers of the table.
    """

    name: Name
    runs: Mapping[Name, Run]
    pretraining: tuple[str, ...] = ()
    table: Table | None = None
    encoder: str = ""
    decoder: str = ""
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
    """A run with a seed: its config, its workdir, and the workdir of the run that it starts from.

    seeds: its own seed last; before it that of the run that it starts from, if that has several.
    train: see `Run`.
    """

    run: str
    seeds: tuple[int, ...]
    config: Config
    workdir: Path
    after: Path | None
    train: bool = True

    @property
    def seed(self) -> int:
        """The job's own seed."""
        return self.seeds[-1]

    @property
    def number(self) -> str:
        """The job's seeds as in the name of its workdir, such as "3.1"."""
        return ".".join(map(str, self.seeds))


def product(*axes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Combines named overrides: {"a": {…}} and {"x": {…}, "y": {…}} become "a-x" and "a-y", each
    with the overrides of both.

    Raises UserError if two axes override the same key, or two combinations get the same name.
    """
    combinations: dict[str, dict[str, Any]] = {"": {}}
    for axis in axes:
        longer = {}
        for (first, before), (name, more) in itertools.product(combinations.items(), axis.items()):
            twice = before.keys() & more.keys()
            if twice:
                raise UserError(f"{first!r} and {name!r} both override {min(twice)}")
            joined = f"{first}-{name}" if first else name
            if joined in longer:
                raise UserError(f"two combinations are named {joined!r}; rename the overrides")
            longer[joined] = {**before, **more}
        combinations = longer
    return combinations


def check_keys(keys: Iterable[str], where: str) -> None:
    """Raises UserError for a config key that a field of the run sets."""
    for key in keys:
        if key in SET_BY:
            raise UserError(f"{where}[{key!r}]: that key is set by the run's {SET_BY[key]}")


def load(spec: str) -> Experiment:
    """Loads the experiment of "FILE.py:arg". Raises UserError if there is none, or if its values
    have other types than its fields."""
    return convert(Experiment, declaration(spec, Experiment), f"{spec}: Experiment")


def declaration(spec: str, kind: type[T]) -> T:
    """Calls `get_experiment(arg)` or `get_search(arg)` of "FILE.py:arg" and returns the result.

    Raises UserError if it is not a `kind`.
    """
    what = kind.__name__.lower()
    try:
        value = config_file.call(spec, f"get_{what}")
    except UserError as error:
        if str(getattr(error.__cause__, "name", "")).startswith(MOVED):
            raise UserError(f"{error}; {MOVED} is research.lab now") from error
        raise
    if not isinstance(value, kind):
        raise UserError(f"{spec}: get_{what}(arg) returns a {type(value).__name__}")
    return value


def jobs(experiment: Experiment, folder: Path) -> list[Job]:
    """Returns all jobs, each after the job that it starts from, with their configs checked.

    Raises UserError for an unknown run, metric or method, a cycle, a start without a checkpoint,
    and anything wrong in a config.
    """
    runs = experiment.runs
    for name in experiment.pretraining:
        if name not in runs:
            raise UserError(f"pretraining names an unknown run {name!r}{nearest(name, runs)}")
    if bool(experiment.encoder) != bool(experiment.decoder):
        raise UserError("the seed examples need an encoder and a decoder; give both, or neither")
    for name in filter(None, (experiment.encoder, experiment.decoder)):
        if name not in runs and not bucket.path(name).is_dir():
            raise UserError(f"{name!r} is neither a run nor a folder{nearest(name, runs)}")
    planned: list[Job] = []
    seeds = _seeds(runs)
    for name in _ordered(runs):
        run = runs[name]
        run.check(f"run {name!r}")
        if run.start in runs and not runs[run.start].train:
            scored = runs[run.start].start
            raise UserError(
                f"run {name!r} starts from {run.start!r}, which has train=False and writes no "
                f"checkpoint; use start={scored!r}, which it scores"
            )
        for numbers in seeds[name]:
            after = None
            if run.start in runs:
                after = workdir(folder, run.start, numbers[:-1] or seeds[run.start][0])
            config = _config(run, numbers[-1], str(after or run.start), runs, name)
            place = workdir(folder, name, numbers)
            planned.append(Job(name, numbers, config, place, after, run.train))
    if experiment.table is not None:
        tables.check(experiment.table, {job.run: job.config for job in planned})
    return planned


def _seeds(runs: Mapping[str, Run]) -> dict[str, list[tuple[int, ...]]]:
    """Returns the seeds of each run's jobs, see `Job`."""
    seeds: dict[str, list[tuple[int, ...]]] = {}
    for name in _ordered(runs):
        run = runs[name]
        if not run.seeds or len(set(run.seeds)) != len(run.seeds):
            raise UserError(f"run {name!r}: seeds={run.seeds} must be one or more different ones")
        starts: list[tuple[int, ...]] = [()]
        if run.start in runs and not run.fresh and len(seeds[run.start]) > 1:
            starts = seeds[run.start]
        seeds[name] = [(*start, seed) for start in starts for seed in run.seeds]
    return seeds


def workdir(folder: Path, run: str, seeds: tuple[int, ...]) -> Path:
    """Returns the workdir of a run with its seeds."""
    return folder / f"{run}-seed{'.'.join(map(str, seeds))}"


def checkpoint_of(name: str, folder: Path, runs: Mapping[str, Run]) -> str:
    """Returns the workdir of a run's first seed, or `name` itself if it is a checkpoint's path."""
    return str(workdir(folder, name, _seeds(runs)[name][0])) if name in runs else name


def _config(run: Run, seed: int, start: str, runs: Mapping[str, Run], name: str) -> Config:
    """Returns the checked config of a run; start: the checkpoint that it starts from."""
    if not run.train and (run.fresh or not run.start):
        raise UserError(f"run {name!r}: train=False needs a start, and not fresh=True")
    if run.start:
        if run.start not in runs and not bucket.path(run.start).is_dir():
            public = run.start.startswith(PUBLIC)
            near = f"; `make {run.start}` fetches it" if public else nearest(run.start, runs)
            raise UserError(
                f"run {name!r} starts from {run.start!r}, which is neither a run nor a folder{near}"
            )
    config = load_config(run, seed, start, f"run {name!r}")
    if not run.train and config.task is None:
        raise UserError(f"run {name!r}: train=False needs a config with a task")
    return config


def load_config(
    run: Run, seed: int, start: str, where: str, more: Mapping[str, Any] | None = None
) -> Config:
    """Returns the checked config of a run; start: the checkpoint that it starts from.

    Raises UserError, which begins with `where`, for anything wrong in the config.
    """
    values = {**run.overrides, **(more or {}), "seed": seed}
    if run.start:
        values |= {"init_from": start, "init": "fresh" if run.fresh else "restore"}
    try:
        return configs.load(run.config, values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


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
    """Returns a hash of a run's config (without free keys, `config.is_free`), of its data, and of
    the checkpoint that it starts from (if fresh, only of that one's shape and tokenizer); for a
    pre-training also of the formats that decide which rows the same texts give."""
    config = job.config
    data = config.data
    used = [*data.corpus, data.train, data.validation, data.test]
    values = configs.flat(configs.to_values(config))
    for old, new in configs.RENAMED.items():  # runs finished under an older name stay finished
        values[old] = values.pop(new)
    parts: dict[str, Any] = {
        "config": {k: v for k, v in values.items() if not configs.is_free(k)},
        "data": [sources.fingerprint(s) for s in used if s is not None],
    }
    if config.init_from:
        info = read_info(config.init_from)
        fresh = [info.config["model"], info.tokenizer_json]
        parts["start"] = fresh if config.init == "fresh" else info.fingerprint
    if config.task is None:
        parts["formats"] = [corpus.TOKENIZER_FORMAT, store.FORMAT, plan.FORMAT]
        # A report shows its last evaluation, which no other command repeats.
        parts["measured"] = config.train.eval_batches
    if not job.train:
        parts["train"] = False
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""Searches for hyper-parameters: a run, and distributions for the values of some config keys.

A search file has `get_search(arg="") -> Search`. The study is Optuna's (Akiba et al. 2019,
arXiv:1907.10902) and is stored in FOLDER/study.log, so a stopped search can resume.
"""

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from research import bucket, config
from research.config import Config
from research.errors import UserError, nearest
from research.evaluation import validation
from research.lab.experiment import (
    Job,
    Run,
    check_keys,
    declaration,
    fingerprint,
    load_config,
)
from research.run.best import LOWER_IS_BETTER
from research.values import Count, Name, Size, convert

if TYPE_CHECKING:
    import optuna

STUDY = "study.log"
PARAMETERS = "parameters.json"  # the values of a trial, in its folder
EVALUATIONS = ("eval_every", "eval_epochs", "eval_batches")
SEARCH = "search"  # attribute of a study: the search that it belongs to
FOLDER = "folder"  # attribute of a trial: the name of its folder
Value = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class Float:
    """A number from low to high, both included; log: uniform in the logarithm."""

    low: float
    high: float
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Int:
    """A whole number from low to high, both included; log: uniform in the logarithm."""

    low: int
    high: int
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Search:
    """run: the run of each trial, with one seed; its start is the path of a checkpoint.

    space: "group.key" of the config -> distribution of its value.
    metric: metric of the validation split, as `config.train.best`; LOWER_IS_BETTER as there.
    trials: number of trials, including pruned and failed ones.
    startup: number of trials that finish before any is pruned. A later trial stops if its best
        value is worse than the median of the others at the same evaluation. 0: prune none.
    """

    name: Name
    run: Run
    space: Mapping[str, Float | Int | Choice]
    metric: str
    trials: Size = 20
    startup: Count = 5

    @property
    def lower_is_better(self) -> bool:
        return self.metric.endswith(LOWER_IS_BETTER)


def load(spec: str) -> Search:
    """Loads the search of "FILE.py:arg". Raises UserError if there is none, or an invalid one."""
    search = declaration(spec, Search)
    convert(Search, search, f"{spec}: Search")  # only checks: the study keeps the file's own values
    search.run.check(f"{spec}: Search.run")
    if not search.space:
        raise UserError(f"{spec}: its space is empty; give at least one key of the config")
    if len(search.run.seeds) != 1 or not search.run.train:
        raise UserError(f"{spec}: a trial needs train=True and one seed")
    _check_keys(search, spec)
    for key, values in search.space.items():
        empty = not values.values if isinstance(values, Choice) else values.low > values.high
        if empty:
            raise UserError(f"{spec}: space[{key!r}]={values} has no value")
        if not isinstance(values, Choice) and values.log and values.low <= 0:
            raise UserError(f"{spec}: space[{key!r}]={values}: with log=True, low must be above 0")
    for corner in _corners(search):
        train = trial_config(search, corner).train
        if not train.eval_every and not train.eval_epochs:
            raise UserError(
                f"{spec}: trials are compared by their evaluations; give the run "
                "train.eval_every (steps) or train.eval_epochs"
            )
    known = validation.known(trial_config(search, _first(search)))
    if search.metric not in known:
        raise UserError(
            f"{spec}: no evaluation has metric={search.metric!r}{nearest(search.metric, known)}"
        )
    return search


def _check_keys(search: Search, spec: str) -> None:
    """Raises UserError for a key of the space or the run that something else sets too."""
    overrides = config.flat(dict(search.run.overrides))
    check_keys(search.space, f"{spec}: space")
    if "train.best" in {**overrides, **search.space}:
        raise UserError(f"{spec}: train.best is set by the search's metric; leave it out")
    if twice := search.space.keys() & overrides.keys():
        raise UserError(
            f"{spec}: {min(twice)!r} is in the space and in the run's overrides; leave one out"
        )


def _ends(values: Float | Int | Choice) -> tuple[Value, ...]:
    """Returns the values of a choice, or the ends of a range."""
    return values.values if isinstance(values, Choice) else (values.low, values.high)


def _first(search: Search) -> dict[str, Value]:
    return {key: _ends(values)[0] for key, values in search.space.items()}


def _corners(search: Search) -> Iterator[dict[str, Value]]:
    """Yields each value of each key (the ends of a range), with the first values of all others."""
    first = _first(search)
    for key, values in search.space.items():
        for value in _ends(values):
            yield first | {key: value}


def trial_config(search: Search, parameters: Mapping[str, Value]) -> Config:
    """Returns the checked config of a trial."""
    run, where = search.run, f"search {search.name!r}"
    if run.start and not bucket.path(run.start).is_dir():
        raise UserError(f"{where} starts from {run.start!r}: not a folder")
    values = {**parameters, "train.best": search.metric}
    return load_config(run, run.seeds[0], run.start, where, values)


def require(folder: Path) -> None:
    """Raises UserError if the folder is on a bucket or Optuna is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("a search needs the package optuna: python -m pip install optuna")
    if bucket.is_remote(folder):
        raise UserError(f"--workdir={folder}: a study is kept in a local folder, not on a bucket")


def study(search: Search, folder: Path) -> "optuna.Study":
    """Loads or creates the study in a folder, and enqueues the trials that were stopped.

    Raises UserError if the study belongs to another search.
    """
    import optuna
    from optuna.storages import JournalStorage, journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.NopPruner()
    if search.startup:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=search.startup)
    study = optuna.create_study(
        storage=JournalStorage(journal.JournalFileBackend(str(folder / STUDY))),
        pruner=pruner,
        study_name=STUDY,  # a folder has one study
        direction="minimize" if search.lower_is_better else "maximize",
        load_if_exists=True,
    )
    _check_same(search, study, folder)
    # The seed makes a search with one trial at a time reproducible; a resumed search must not draw
    # its first values again.
    study.sampler = optuna.samplers.TPESampler(seed=search.run.seeds[0] + 1000 * len(study.trials))
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if place := trial.user_attrs.get(FOLDER):
            study.enqueue_trial(trial.params, user_attrs={FOLDER: place})
    return study


def _check_same(search: Search, study: "optuna.Study", folder: Path) -> None:
    """Notes the search in the study. Raises UserError if the study belongs to another search."""
    trial = Job(search.name, search.run.seeds, trial_config(search, _first(search)), folder, None)
    about = {
        "name": search.name,
        "metric": search.metric,
        "space": {key: repr(values) for key, values in search.space.items()},
        "config, data or checkpoint": fingerprint(trial),
        # Free keys of a training, but they decide when trials are compared.
        "evaluations": [getattr(trial.config.train, key) for key in EVALUATIONS],
    }
    before = study.user_attrs.get(SEARCH)
    if before is None:
        study.set_user_attr(SEARCH, about)
        return
    differs = [key for key in about if before.get(key) != about[key]]
    if differs:
        raise UserError(
            f"{folder / STUDY} belongs to another search (its {', '.join(differs)}); give another "
            "--workdir"
        )


def ask(search: Search, study: "optuna.Study") -> tuple["optuna.Trial", dict[str, Value], str]:
    """Returns the next trial, its values, and the name of its folder."""
    places = {t.user_attrs[FOLDER] for t in study.trials if FOLDER in t.user_attrs}
    trial = study.ask()
    if FOLDER not in trial.user_attrs:
        trial.set_user_attr(FOLDER, f"trial-{len(places):03d}")
    chosen: dict[str, Value] = {}
    for key, values in search.space.items():
        if isinstance(values, Choice):
            chosen[key] = trial.suggest_categorical(key, values.values)
        else:
            suggest = trial.suggest_float if isinstance(values, Float) else trial.suggest_int
            chosen[key] = suggest(key, values.low, values.high, log=values.log)
    return trial, chosen, trial.user_attrs[FOLDER]


def over(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Returns the trials that are over; a stopped trial counts once, as the one that resumed it."""
    newest = {t.user_attrs[FOLDER]: t for t in study.trials if FOLDER in t.user_attrs}
    return [trial for trial in newest.values() if trial.state.is_finished()]

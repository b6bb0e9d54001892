"""What a search for hyper-parameters is: a run, and where the values of some keys are drawn from.

A search file has `get_search(arg="") -> Search`. The study is Optuna's (Akiba et al. 2019,
arXiv:1907.10902) and lies in FOLDER/study.log: what was stopped goes on.
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
PARAMETERS = "parameters.json"  # of a trial, in its folder
EVALUATIONS = ("eval_every", "eval_epochs", "eval_batches")
SEARCH = "search"  # the attribute of the study that says what it is of
FOLDER = "folder"  # a trial's attribute: where it is made
Value = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class Float:
    """A number from low to high, both included; log: small ones as often as large ones."""

    low: float
    high: float
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Int:
    """A whole number from low to high, both included."""

    low: int
    high: int
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]


@dataclasses.dataclass(frozen=True)
class Search:
    """run: what a trial is, with one seed; its start is the path of a checkpoint.

    space: "group.key" of the config -> where its value is drawn from.
    metric: of the validation split, as `config.train.best`; losses and their like are best low.
    trials: how many, those that were pruned and that failed included.
    startup: trials that go to their end before others are compared with them. After that one whose
        best value is worse than the median of what the others had at the same step is stopped. 0:
        none ever is.
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
    """The search of "FILE.py:arg". Raises UserError if it has none, or one that cannot be made."""
    found = declaration(spec, Search)
    convert(Search, found, f"{spec}: Search")  # the study has its space as the file writes it
    found.run.check(f"{spec}: Search.run")
    if not found.space:
        raise UserError(f"{spec}: its space is empty; give at least one key of the config")
    if len(found.run.seeds) != 1 or not found.run.train:
        raise UserError(f"{spec}: a trial is trained, with one seed")
    _check_keys(found, spec)
    for key, values in found.space.items():
        empty = not values.values if isinstance(values, Choice) else values.low > values.high
        if empty:
            raise UserError(f"{spec}: space[{key!r}]={values} has no value")
        if not isinstance(values, Choice) and values.log and values.low <= 0:
            raise UserError(f"{spec}: space[{key!r}]={values}: with log=True, low is above 0")
    for corner in _corners(found):
        train = trial_config(found, corner).train
        if not train.eval_every and not train.eval_epochs:
            raise UserError(
                f"{spec}: trials are compared by their evaluations; give the run "
                "train.eval_every (steps) or train.eval_epochs"
            )
    known = validation.known(trial_config(found, _first(found)))
    if found.metric not in known:
        raise UserError(
            f"{spec}: no evaluation has metric={found.metric!r}{nearest(found.metric, known)}"
        )
    return found


def _check_keys(search: Search, spec: str) -> None:
    """Raises UserError for a key of the space or the run whose value another one would replace."""
    overrides = config.flat(dict(search.run.overrides))
    check_keys(search.space, f"{spec}: space")
    if "train.best" in {**overrides, **search.space}:
        raise UserError(f"{spec}: train.best is set by the search's metric; leave it out")
    if twice := search.space.keys() & overrides.keys():
        raise UserError(
            f"{spec}: {min(twice)!r} is in the space and in the run's overrides; leave one out"
        )


def _ends(values: Float | Int | Choice) -> tuple[Value, ...]:
    """The values of a choice; of a range the lowest and the highest."""
    return values.values if isinstance(values, Choice) else (values.low, values.high)


def _first(search: Search) -> dict[str, Value]:
    return {key: _ends(values)[0] for key, values in search.space.items()}


def _corners(search: Search) -> Iterator[dict[str, Value]]:
    """Each value of each key (of a range its ends), beside the first ones of the others."""
    first = _first(search)
    for key, values in search.space.items():
        for value in _ends(values):
            yield first | {key: value}


def trial_config(search: Search, parameters: Mapping[str, Value]) -> Config:
    """The checked config of a trial."""
    run, where = search.run, f"search {search.name!r}"
    if run.start and not bucket.path(run.start).is_dir():
        raise UserError(f"{where} starts from {run.start!r}: not a folder")
    values = {**parameters, "train.best": search.metric}
    return load_config(run, run.seeds[0], run.start, where, values)


def require(folder: Path) -> None:
    """Raises UserError for a folder on a bucket, and without Optuna."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("a search needs the package optuna: python -m pip install optuna")
    if bucket.is_remote(folder):
        raise UserError(f"--workdir={folder}: a study is kept in a local folder, not on a bucket")


def study(search: Search, folder: Path) -> "optuna.Study":
    """The study in a folder, a new one where there is none; trials that were stopped wait in it.

    Raises UserError for one of another search.
    """
    import optuna
    from optuna.storages import JournalStorage, journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.NopPruner()
    if search.startup:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=search.startup)
    found = optuna.create_study(
        storage=JournalStorage(journal.JournalFileBackend(str(folder / STUDY))),
        pruner=pruner,
        study_name=STUDY,  # one for a folder
        direction="minimize" if search.lower_is_better else "maximize",
        load_if_exists=True,
    )
    _check_same(search, found, folder)
    # With a seed a search of one trial at a time is the same each time; one that goes on must not
    # draw its first values again.
    found.sampler = optuna.samplers.TPESampler(seed=search.run.seeds[0] + 1000 * len(found.trials))
    for trial in found.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        found.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if place := trial.user_attrs.get(FOLDER):
            found.enqueue_trial(trial.params, user_attrs={FOLDER: place})
    return found


def _check_same(search: Search, study: "optuna.Study", folder: Path) -> None:
    """Notes in the study which search it is of. Raises UserError where it is of another one."""
    trial = Job(search.name, search.run.seeds, trial_config(search, _first(search)), folder, None)
    about = {
        "name": search.name,
        "metric": search.metric,
        "space": {key: repr(values) for key, values in search.space.items()},
        "config, data or checkpoint": fingerprint(trial),
        # Of a training they are free; of a trial they decide how often it is looked at.
        "evaluations": [getattr(trial.config.train, key) for key in EVALUATIONS],
    }
    before = study.user_attrs.get(SEARCH)
    if before is None:
        study.set_user_attr(SEARCH, about)
        return
    differs = [key for key in about if before.get(key) != about[key]]
    if differs:
        raise UserError(
            f"{folder / STUDY} is of another search (its {', '.join(differs)}); give another "
            "--workdir"
        )


def ask(search: Search, study: "optuna.Study") -> tuple["optuna.Trial", dict[str, Value], str]:
    """The next trial, its values, and the name of its folder."""
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
    """The trials that are over; one that was stopped counts where it went on."""
    newest = {t.user_attrs[FOLDER]: t for t in study.trials if FOLDER in t.user_attrs}
    return [trial for trial in newest.values() if trial.state.is_finished()]

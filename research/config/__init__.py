"""Turns config files into frozen dataclasses, and rejects every wrong key or value.

A config file has `get_config(arg) -> ml_collections.ConfigDict`. Its keys are those of
`schema.Config`; missing keys have the defaults of the dataclasses. On the command line,
`--config=FILE.py:arg` picks the file and `--config.key.key=value` changes a key.
"""

import copy
import dataclasses
import json
import sys
import types
from collections.abc import Mapping
from typing import Any

from research.config import check, file, keys
from research.config.schema import Config
from research.data.config import with_held_out
from research.data.sources import SourceConfig
from research.errors import UserError, nearest
from research.models import config as model_config
from research.objectives import config_class
from research.tasks import TASKS
from research.values import UnknownKeyError, convert, literal

# Keys that may change when a run resumes: it stays the same run, though results may differ in the
# last digits.
FREE_KEYS = (
    *("init_from", "data.cache", "mesh", "model.remat", "model.attention"),
    *("train.log_every", "train.eval_every", "train.eval_epochs", "train.eval_batches"),
    *("train.samples", "train.checkpoint_every", "train.deterministic", "train.wandb"),
    *("train.keep", "train.checkpoint_minutes", "train.on_bad_step", "train.bad_steps"),
    *("train.watchdog_seconds", "train.watchdog_factor", "train.check_saves"),
)


RENAMED = {"data.slots": "data.segments"}  # old name of a key, which is still read -> new name


def is_free(key: str) -> bool:
    """Whether a key is in `FREE_KEYS`, or below one of them."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)


SOURCE_KEYS = {field.name for field in dataclasses.fields(SourceConfig)}


def load(spec: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Loads and checks the config "FILE.py:arg", changed by `overrides`.

    Args:
        overrides: "group.key" -> value; a string is read as on the command line.

    Raises UserError for a missing or broken file, an unknown key or argument, or a wrong type.
    """
    values, overrides = file.values(spec), dict(overrides or {})
    for old, new in RENAMED.items():
        if old in overrides or old in flat(values):
            print(f"config.{old} is named config.{new} now", file=sys.stderr)
    return override(values, overrides, spec)


def override(
    values: Mapping[str, Any], overrides: Mapping[str, Any], where: str, to_run: bool = True
) -> Config:
    """Returns the checked config of nested dicts, changed by `overrides` as in `load`."""
    return from_values(overridden(values, overrides), where, to_run)


def overridden(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts changed by `overrides`; a length of the run replaces the others."""
    changed = renamed(values)
    overrides = {RENAMED.get(path, path): value for path, value in overrides.items()}
    _drop_rivals(changed, overrides)
    # Groups before their keys, in whichever order they were given.
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        _set(changed, path, literal(value) if isinstance(value, str) else value)
    return changed


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of nested dicts with the new names of keys. Raises UserError if a key has both
    names."""
    changed = copy.deepcopy(dict(values))
    for old, new in RENAMED.items():
        (name, before), (_, now) = old.split("."), new.split(".")
        group = changed.get(name)
        if isinstance(group, dict) and before in group:
            if now in group:
                raise UserError(f"config.{old} is the older name of config.{new}; give one of them")
            group[now] = group.pop(before)
    return changed


def _drop_rivals(values: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Removes the keys that an override of another key replaces: the other lengths of a run, and
    the other interval of its evaluations."""
    for rivals in (check.LENGTHS, check.RHYTHMS):
        asked = {key: str(overrides.get(f"train.{key}", 0)) for key in rivals}
        if any(value not in ("0", "0.0", "") for value in asked.values()):
            for key in rivals:
                values.get("train", {}).pop(key, None)


def arguments(arg: str, **defaults: Any) -> types.SimpleNamespace:
    """Parses a config file's argument, "size=tiny,nsp=false", over its defaults.

    Raises UserError for a name without a default or a value of another type.
    """
    parsed = dict(defaults)
    for item in filter(None, arg.split(",")):
        name, equals, text = item.partition("=")
        fits = [n for n, value in defaults.items() if type(value) is type(literal(name))]
        if not equals and name not in defaults and fits:
            valid = ", ".join(defaults)
            raise UserError(f"config argument {name!r}: write {fits[0]}={name}; valid: {valid}")
        if name not in defaults:
            raise UserError(f"config argument {name!r} is not known{_meant(name, list(defaults))}")
        if not equals:
            raise UserError(f"config argument {name!r} needs a value: {name}=…")
        parsed[name] = convert(type(defaults[name]), literal(text), f"config argument {name}")
    return types.SimpleNamespace(**parsed)


def from_values(values: Mapping[str, Any], where: str = "config", to_run: bool = True) -> Config:
    """Converts nested dicts to `Config`. Raises UserError naming the key and the nearest valid one.

    to_run: False for the config of a checkpoint, which may lack data and loss (if imported).
    """
    try:
        config = _converted(values)
    except UnknownKeyError as error:
        key = f"{error.group}.{error.key}"
        hint = _meant(key.removeprefix("config."), error.valid)
        raise UserError(f"{key} is not a key{hint}") from error
    if to_run:
        check.check(config, where)
    return config


def of_checkpoint(values: Mapping[str, Any], path: str) -> Config:
    """The config of the checkpoint `path`. Raises UserError if a version of the code with other
    keys wrote it."""
    try:
        return from_values(values, to_run=False)
    except UserError as error:
        raise UserError(
            f"the checkpoint {path} was made by another version of the code, whose config this one "
            f"cannot read: {error}"
        ) from error


def to_values(config: Config) -> dict[str, Any]:
    """`Config` as nested dicts of JSON values; `from_values` reads it back."""

    def plain(x: Any) -> Any:
        if dataclasses.is_dataclass(x):
            fields = {f.name: plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
            names = [name for name, task in TASKS.items() if type(x) is task.Options]
            return {"name": names[0], **fields} if names else fields
        if isinstance(x, Mapping):
            return {k: plain(v) for k, v in x.items()}
        return [plain(v) for v in x] if isinstance(x, list | tuple) else x

    return json.loads(json.dumps(plain(config)))


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to "group.key" -> value."""
    if not isinstance(values, dict):
        return {prefix: values}
    flattened: dict[str, Any] = {}
    for name, value in values.items():
        flattened |= flat(value, f"{prefix}.{name}" if prefix else name)
    return flattened


def changed_keys(config: Config) -> dict[str, Any]:
    """The keys of a config, "group.key" -> JSON value, that differ from their defaults."""
    default = flat(to_values(Config()))
    values = flat(to_values(config))
    return {key: value for key, value in values.items() if default.get(key) != value}


def _converted(values: Mapping[str, Any]) -> Config:
    values = {"model": {}} | renamed(values)
    objective, task = values.pop("objective", None), values.pop("task", None)
    config = convert(Config, values | {"model": _with_preset(values["model"])}, "config")
    return dataclasses.replace(
        config,
        data=with_held_out(config.data),
        objective=convert(config_class() | None, objective, "config.objective"),
        task=None if task is None else _task(task),
    )


def _with_preset(model: Any) -> Any:
    """Puts the keys of a model over those of its preset. Raises UserError for an unknown preset."""
    if not isinstance(model, Mapping):
        return model
    preset, written = model.get("preset", ""), model.keys() - {"preset"}
    if preset == "checkpoint":
        # A key set to its default overrides the checkpoint's value like any other.
        return {"given": tuple(sorted(written)), **model}
    if not isinstance(preset, str) or not preset:
        return model
    return dataclasses.asdict(model_config.preset(preset)) | dict(model)


def _task(values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise UserError(f"config.task={values!r} must be a group of keys, such as task.name")
    values = dict(values)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in TASKS:
        raise UserError(f"task.name={name!r} is not known{nearest(str(name), TASKS)}")
    labels = values.get("labels")
    if isinstance(labels, list | tuple):  # numbers and booleans become strings, as in rows
        text = (str(x).lower() if isinstance(x, bool) else x for x in labels)
        values["labels"] = [str(x) if isinstance(x, int | float) else x for x in text]
    return convert(TASKS[name].Options, values, "config.task")


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    at = values
    for depth, name in enumerate(parents):
        if at.get(name) is None:
            at[name] = {}
        if isinstance(at[name], str) and last in SOURCE_KEYS and depth + 1 == len(parents):
            at[name] = {"name": at[name]}  # a source may be written as its name alone
        at = at[name]
        if not isinstance(at, dict):
            raise UserError(
                f"config.{path}: {'.'.join(parents[: depth + 1])} holds a value, no keys"
            )
    at[last] = value


def _meant(key: str, valid: list[str]) -> str:
    """A hint with the key of another group that is meant, or else the nearest of this group."""
    others = [f"config.{other}" for other in keys.meant(key) if other != key]
    return (
        f"; did you mean {' or '.join(others)}?"
        if others
        else nearest(key.rpartition(".")[2], valid)
    )

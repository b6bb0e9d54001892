"""Config files to frozen dataclasses; every wrong key or value dies here.

A config file has `get_config(arg) -> ml_collections.ConfigDict`. Its keys are those of
`schema.Config`; keys it leaves out have the defaults of the dataclasses. On the command line
`--config=FILE.py:arg` and `--config.key.key=value` change it further.
"""

import ast
import copy
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from research.config import check, file, keys, schema
from research.config.schema import Config
from research.data.config import with_held_out
from research.data.sources import SourceConfig
from research.errors import UserError, nearest
from research.models import config as model_config
from research.models.config import ModelConfig
from research.tasks import TASKS

# Keys that may change between a run and its resumption: it stays the same run, if not always the
# same to the last digit.
FREE_KEYS = (
    *("init_from", "data.cache", "mesh", "model.remat", "model.attention"),
    *("train.log_every", "train.eval_every", "train.eval_epochs", "train.eval_batches"),
    *("train.samples", "train.checkpoint_every", "train.deterministic", "train.wandb"),
    *("train.keep", "train.checkpoint_minutes", "train.on_bad_step", "train.bad_steps"),
    *("train.watchdog_seconds", "train.watchdog_factor", "train.check_saves"),
)


def is_free(key: str) -> bool:
    """Whether a key, "model.remat" or one below it, is of `FREE_KEYS`."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)


SOURCE_KEYS = {field.name for field in dataclasses.fields(SourceConfig)}


def load(spec: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """The checked config of "FILE.py:arg", changed by `overrides`.

    Args:
        overrides: "group.key" -> value; a string is read as the command line's text.

    Raises UserError for a missing or broken file, an unknown key or argument, a wrong type.
    """
    return override(file.values(spec), overrides or {}, spec)


def override(
    values: Mapping[str, Any], overrides: Mapping[str, Any], where: str, to_run: bool = True
) -> Config:
    """The checked config of nested dicts, changed by `overrides` as in `load`."""
    return from_values(overridden(values, overrides), where, to_run)


def overridden(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts changed by `overrides`; a length of the run takes the place of the others."""
    changed = copy.deepcopy(dict(values))
    _drop_rivals(changed, overrides)
    # What is whole before its parts, in whichever order they were given.
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        _set(changed, path, _literal(value) if isinstance(value, str) else value)
    return changed


def _drop_rivals(values: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Takes out what an override replaces though it has another name: the other lengths of a run,
    and the other rhythm of its evaluations."""
    for rivals in (check.LENGTHS, check.RHYTHMS):
        asked = {key: str(overrides.get(f"train.{key}", 0)) for key in rivals}
        if any(value not in ("0", "0.0", "") for value in asked.values()):
            for key in rivals:
                values.get("train", {}).pop(key, None)


def arguments(arg: str, **defaults: Any) -> types.SimpleNamespace:
    """A config file's argument "size=tiny,nsp=false" over its defaults.

    Raises UserError for a name that has no default or a value of another type.
    """
    found = dict(defaults)
    for item in filter(None, arg.split(",")):
        name, equals, text = item.partition("=")
        fits = [n for n, value in defaults.items() if type(value) is type(_literal(name))]
        if not equals and name not in defaults and fits:
            valid = ", ".join(defaults)
            raise UserError(f"config argument {name!r}: write {fits[0]}={name}; valid: {valid}")
        if name not in defaults:
            raise UserError(f"config argument {name!r} is not known{_meant(name, defaults)}")
        if not equals:
            raise UserError(f"config argument {name!r} needs a value: {name}=…")
        found[name] = _convert(type(defaults[name]), _literal(text), f"argument {name}")
    return types.SimpleNamespace(**found)


def from_values(values: Mapping[str, Any], where: str = "config", to_run: bool = True) -> Config:
    """Nested dicts to `Config`. Raises UserError naming the key and the nearest valid one.

    to_run False: the config in a checkpoint, which may name no data and no loss (an imported one).
    """
    values = dict(values)
    task = values.pop("task", None)
    config = _convert(Config, values, "")
    config = dataclasses.replace(config, data=with_held_out(config.data))
    if task is not None:
        config = dataclasses.replace(config, task=_task(task))
    if to_run:
        check.check(config, where)
    return config


def of_checkpoint(values: Mapping[str, Any], path: str) -> Config:
    """The config in the checkpoint `path`. Raises UserError where another version of the code, with
    other keys, wrote it."""
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
            found = {f.name: plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
            names = [name for name, task in TASKS.items() if type(x) is task.Options]
            return {"name": names[0], **found} if names else found
        if isinstance(x, Mapping):
            return {k: plain(v) for k, v in x.items()}
        return [plain(v) for v in x] if isinstance(x, list | tuple) else x

    return json.loads(json.dumps(plain(config)))


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, "group.key" -> value."""
    if not isinstance(values, dict):
        return {prefix: values}
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}.{name}" if prefix else name)
    return found


def changed_keys(config: Config) -> dict[str, Any]:
    """The keys of a config, "group.key" -> JSON value, that are not as they are by default."""
    default = flat(to_values(Config()))
    values = flat(to_values(config))
    return {key: value for key, value in values.items() if default.get(key) != value}


def _task(values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise _wrong("task", values, "a group of keys, such as task.name")
    values = dict(values)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in TASKS:
        raise UserError(f"task.name={name!r} is not known{nearest(str(name), TASKS)}")
    labels = values.get("labels")
    if isinstance(labels, list | tuple):  # numbers and truths, as a row's are
        text = (str(x).lower() if isinstance(x, bool) else x for x in labels)
        values["labels"] = [str(x) if isinstance(x, int | float) else x for x in text]
    return _convert(TASKS[name].Options, values, "task")


def _literal(text: str) -> Any:
    """A command line's text as a Python value; what is not a literal is a string."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    at = values
    for depth, name in enumerate(parents):
        if at.get(name) is None:
            at[name] = {}
        if isinstance(at[name], str) and last in SOURCE_KEYS and depth + 1 == len(parents):
            at[name] = {"name": at[name]}  # a source may be its name alone
        at = at[name]
        if not isinstance(at, dict):
            raise UserError(
                f"config.{path}: {'.'.join(parents[: depth + 1])} holds a value, no keys"
            )
    at[last] = value


def _convert(kind: Any, value: Any, path: str) -> Any:
    """`value` as `kind`, which is a type annotation of a config dataclass."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        words = (word for a in args if typing.get_origin(a) is Literal for word in a.__args__)
        if isinstance(value, str) and value in words:
            return value
        return _convert(next(a for a in args if a is not type(None)), value, path)
    if origin is Literal:
        if value is None and "none" in args:  # on the command line none means None
            return "none"
        if value not in args:
            raise UserError(f"config.{path}={value!r} is not valid{nearest(str(value), args)}")
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(path, value, """a list, such as '["a", "b"]'""")
        return tuple(_convert(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not value:
            return ()  # as the default, which has to be hashable
        if not isinstance(value, Mapping):
            raise _wrong(path, value, "a dict")
        return {k: _convert(args[1], v, f"{path}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise _wrong(
            path,
            value,
            {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}[
                kind
            ],
        )
    return value


def _wrong(path: str, value: Any, expected: str) -> UserError:
    return UserError(f"config.{path} must be {expected}, not {value!r} ({type(value).__name__})")


def _meant(key: str, fields: Mapping[str, Any]) -> str:
    """Which key of another group is meant, or else which of the same group."""
    others = [f"config.{other}" for other in keys.meant(key) if other != key]
    return (
        f"; did you mean {' or '.join(others)}?"
        if others
        else nearest(key.rpartition(".")[2], fields)
    )


def _dataclass(kind: type, value: Any, path: str) -> Any:
    if kind is SourceConfig and isinstance(value, str):
        value = {"name": value}
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        raise _wrong(path, value, "a group of keys")
    hints = schema.hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    dot = f"{path}." if path else ""
    for name in value:
        if name not in fields:
            raise UserError(f"config.{dot}{name} is not a key{_meant(dot + name, fields)}")
    found = {n: _convert(hints[n], v, f"{dot}{n}") for n, v in value.items()}
    missing = [
        n
        for n, f in fields.items()
        if n not in found
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"config.{dot}{missing[0]} is missing")
    if kind is ModelConfig and found.get("preset") == "checkpoint":
        # A key set to its default changes the checkpoint's value as any other does.
        found.setdefault("given", tuple(sorted(found.keys() - {"preset"})))
    if kind is ModelConfig and found.get("preset", "") not in ("", "checkpoint"):
        return dataclasses.replace(model_config.preset(found["preset"]), **found)
    return kind(**found)

"""Config files to frozen dataclasses; every wrong key or value dies here.

A config file has `get_config(arg) -> ml_collections.ConfigDict`. Its keys are those of `Config`
below; keys it leaves out have the defaults of the dataclasses. On the command line
`--config=FILE.py:arg` and `--config.key.key=value` change it further.
"""

import ast
import copy
import dataclasses
import importlib.util
import json
import traceback
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import ml_collections

from research import config_check
from research.data.config import DataConfig, TokenizerConfig
from research.data.sources import SourceConfig
from research.errors import UserError, nearest
from research.models import config as model_config
from research.models.config import ModelConfig
from research.objectives import ObjectivesConfig
from research.sharding.mesh import MeshConfig
from research.tasks import TASKS
from research.training.optimizer import OptimizerConfig

# Keys that may change between a run and its resumption: it stays the same run, if not always the
# same to the last digit.
FREE_KEYS = (
    *("init_from", "data.cache", "mesh", "model.remat", "model.attention"),
    *("train.log_every", "train.eval_every", "train.eval_epochs", "train.eval_batches"),
    *("train.samples", "train.checkpoint_every", "train.deterministic", "train.wandb"),
    "train.keep",
)


def is_free(key: str) -> bool:
    """Whether a key, "model.remat" or one below it, is of `FREE_KEYS`."""
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)


SOURCE_KEYS = {field.name for field in dataclasses.fields(SourceConfig)}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of a run, in steps unless said otherwise.

    `batch_size` counts tokens in pre-training and examples in tasks. One of `steps`, `epochs`,
    `examples` (of a task) and `tokens` (of a pre-training) is given, the others are 0. `every` 0:
    only at the end; `eval_epochs` says the same as `eval_every` in epochs. `eval_batches` 0: the
    whole split; an evaluation takes a batch in `accumulation` parts too. `samples`: so many texts
    of the split are written down with what the model makes of them, at each evaluation. `best`: the
    metric by which the best checkpoint is kept beside the newest ones; `patience`: so many
    evaluations without a better one end the run, 0 none do. `wandb`: the project in Weights &
    Biases to which numbers and texts go too. `deterministic`: on GPU, the same numbers each time.
    """

    batch_size: int = 4096
    steps: int = 0
    epochs: float = 0.0
    examples: int = 0
    tokens: int = 0
    accumulation: int = 1
    log_every: int = 20
    eval_every: int = 0
    eval_epochs: float = 0.0
    eval_batches: int = 0
    samples: int = 0
    best: str = ""
    patience: int = 0
    checkpoint_every: int = 0
    keep: int = 2
    wandb: str = ""
    deterministic: bool = False

    @property
    def eval_steps(self) -> int:
        """Steps of an evaluation, each of a part of a batch; 0: the whole split."""
        return self.eval_batches * self.accumulation


@dataclasses.dataclass(frozen=True)
class Config:
    """A run. `objective` makes it a pre-training, `task` a fine-tuning; exactly one is given.

    `init_from` is a checkpoint; `init` says what of it is used: "restore" its backbone (and heads
    of the same name), "fresh" only its shape and tokenizer, with new weights.
    """

    seed: int = 0
    init_from: str = ""
    init: Literal["restore", "fresh"] = "restore"
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectivesConfig | None = None
    task: Any = None
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()


def load(spec: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """The checked config of "FILE.py:arg", changed by `overrides`.

    Args:
        overrides: "group.key" -> value; a string is read as the command line's text.

    Raises UserError for a missing or broken file, an unknown key or argument, a wrong type.
    """
    return override(load_values(spec), overrides or {}, spec)


def override(
    values: Mapping[str, Any], overrides: Mapping[str, Any], where: str, to_run: bool = True
) -> Config:
    """The checked config of nested dicts, changed by `overrides` as in `load`."""
    changed = copy.deepcopy(dict(values))
    # What is whole before its parts, in whichever order they were given.
    for path, value in sorted(overrides.items(), key=lambda item: item[0].count(".")):
        _set(changed, path, _literal(value) if isinstance(value, str) else value)
    return from_values(changed, where, to_run)


def load_values(spec: str) -> dict[str, Any]:
    """What a config file's `get_config` returns, as plain nested dicts."""
    found = call(spec, "get_config")
    if isinstance(found, ml_collections.ConfigDict):
        found = found.to_dict()
    if not isinstance(found, dict):
        raise UserError(
            f"{spec}: get_config(arg) must return an ml_collections.ConfigDict, "
            f"not {type(found).__name__}"
        )
    return found


# What a config file may define, and what reads it.
READ_BY = {
    "get_config": "`launch.py train`, `data` and the runs of an experiment",
    "get_experiment": "`launch.py experiment`",
    "get_search": "`launch.py search`",
}


def call(spec: str, name: str) -> Any:
    """What the function `name` of the file in "FILE.py:arg" returns for that argument.

    Raises UserError where there is no such file or function, and where it fails.
    """
    file, _, arg = spec.partition(":")
    module = load_module(file)
    if not hasattr(module, name):
        other = next((o for o in READ_BY if o != name and hasattr(module, o)), None)
        hint = f"; it has {other}(arg), which is for {READ_BY[other]}" if other else ""
        raise UserError(f"{file} has no {name}(arg){hint}")
    try:
        return getattr(module, name)(*[arg] if arg else [])
    except UserError:
        raise
    except Exception as error:  # the file is code, which may fail in any way
        raise _broken(file, error) from error


def load_module(file: str) -> types.ModuleType:
    """Runs a config file. Raises UserError where there is none or it fails."""
    path = Path(file)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        near = near or sorted(str(p) for p in Path("configs").rglob("*.py"))
        raise UserError(f"no config file {file!r}{nearest(file, near)}")
    _check_literals(path)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # the file is code, which may fail in any way
        raise _broken(file, error) from error
    return module


def _check_literals(path: Path) -> None:
    """Raises UserError for a file that is no Python, and for a dict in it that has a key twice: of
    two runs with one name Python would silently drop the first."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # bytes that are no text
        raise UserError(f"{path} is no Python file: {error}") from error
    for node in ast.walk(tree):
        keys = node.keys if isinstance(node, ast.Dict) else []
        seen: dict[Any, int] = {}
        for key in keys:
            if not isinstance(key, ast.Constant):
                continue
            if key.value in seen:
                raise UserError(
                    f"{path}, line {key.lineno}: {key.value!r} stands here a second time, after "
                    f"line {seen[key.value]}; two of one name"
                )
            seen[key.value] = key.lineno


def _broken(file: str, error: Exception) -> UserError:
    """What went wrong in a config file, and in which of its lines."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == Path(file).resolve()
    ]
    place = f", line {lines[-1]}" if lines else ""
    return UserError(f"{file}{place}: {type(error).__name__}: {error}")


def arguments(arg: str, **defaults: Any) -> types.SimpleNamespace:
    """A config file's argument "size=tiny,nsp=false" over its defaults.

    Raises UserError for a name that has no default or a value of another type.
    """
    found = dict(defaults)
    for item in filter(None, arg.split(",")):
        name, equals, text = item.partition("=")
        if name not in defaults:
            raise UserError(f"config argument {name!r} is not known{nearest(name, defaults)}")
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
    if task is not None:
        config = dataclasses.replace(config, task=_task(task))
    if to_run:
        config_check.check(config, where)
    return config


def to_values(config: Config) -> dict[str, Any]:
    """`Config` as nested dicts of JSON values; `from_values` reads it back."""

    def plain(x: Any) -> Any:
        if dataclasses.is_dataclass(x):
            found = {f.name: plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
            names = [name for name, cls in TASKS.items() if type(x) is cls]
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
    return _convert(TASKS[name], values, "task")


def _literal(text: str) -> Any:
    """A command line's text as a Python value; what is no literal is a string."""
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


def _dataclass(kind: type, value: Any, path: str) -> Any:
    if kind is SourceConfig and isinstance(value, str):
        value = {"name": value}
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        raise _wrong(path, value, "a group of keys")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    dot = f"{path}." if path else ""
    for name in value:
        if name not in fields:
            raise UserError(f"config.{dot}{name} is not a key{nearest(name, fields)}")
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

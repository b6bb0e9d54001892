"""`launch.py config`."""

import ast
import dataclasses
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from research import config as configs
from research import shipped
from research.config import Config
from research.config import check as config_check
from research.config import file as config_file
from research.config import keys as config_keys
from research.config.keys import Key
from research.data.sources import SourceConfig
from research.errors import UserError
from research.tasks import name_of

WIDTH = 100  # columns


def run(config: str, overrides: dict[str, str], keys: str = "") -> int:
    """Prints every key with its value, its default, its origin and its meaning.

    Args:
        keys: print only keys with this in their name or meaning.
    """
    written = config_file.values(config)
    loaded = configs.override(written, overrides, config, to_run=False)
    known = config_keys.of_config()
    if loaded.task is not None:
        known |= config_keys.of_task(name_of(loaded.task))
    values = dict(_values(loaded, known))
    shown = [key for key in values if keys.lower() in f"{key} {known[key].meaning}".lower()]
    if not shown:  # the name that another tool has for a key
        shown = [key for key in config_keys.meant(keys) if key in values]
    if not shown:
        raise UserError(f"config: no key has {keys!r} in its name or its meaning")
    in_file, by_hand = configs.flat(written), set(overrides)
    for rivals in (config_check.LENGTHS, config_check.RHYTHMS):
        keys_of = {f"train.{key}" for key in rivals}
        if keys_of & by_hand:  # an override replaces its rivals in the file
            by_hand |= keys_of & in_file.keys()
    file = config.partition(":")[0]
    lines = _lines_of(Path(shipped.beside(file)))
    for key in shown:
        origin = ""
        if _covered(key, by_hand):
            origin = "command line"
        elif _covered(key, in_file):
            origin = ":".join(filter(None, (file, _line(key, lines))))
        elif key.startswith("model.") and (preset := loaded.model.preset):
            origin = f"preset {preset}"
        print("\n".join(_shown(key, values[key], known[key], origin)))
    try:
        config_check.check(loaded, config)
    except UserError as error:
        print(f"\nit cannot run yet: {error}")
    return 0


def _values(config: Config, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yields each key with its value, except groups and the keys of a group that is None."""
    for key in keys:
        value: Any = config
        *groups, name = key.split(".")
        for group in groups:
            value = value and getattr(value, group)
        if value is None:
            continue
        value = name_of(config.task) if key == "task.name" else getattr(value, name)
        if not dataclasses.is_dataclass(value) or isinstance(value, SourceConfig):
            yield key, value


def _covered(key: str, by: Collection[str]) -> bool:
    """Whether `by` has the key, a group that contains it, or a part of it."""
    return any(f"{key}.".startswith(f"{k}.") or k.startswith(f"{key}.") for k in by)


def _shown(key: str, value: Any, about: Key, origin: str) -> Iterator[str]:
    """Yields the lines of a key: value and origin, then its meaning, indented."""
    shown = "the checkpoint's" if origin == "preset checkpoint" else _text(value)
    same = value == about.default and shown == _text(value)
    if same and origin.startswith("preset"):
        origin = ""
    default = "default" if same else f"default {_text(about.default)}"
    default = "no default" if about.default is config_keys.REQUIRED else default
    state = ", ".join(filter(None, (origin, default)))
    wrap = textwrap.TextWrapper(WIDTH, break_on_hyphens=False, break_long_words=False)
    wrap.subsequent_indent = "    "
    yield from wrap.wrap(f"{key} = {shown}  ({state})")
    wrap.initial_indent = wrap.subsequent_indent = "      "
    yield from wrap.wrap(f"{about.meaning} {about.valid}")


def _text(value: Any) -> str:
    """A value as a config file writes it; of a source only the keys that are not the default."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, SourceConfig):
        fields = [(f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value)]
        set_keys = {name: item for name, item, default in fields if item != default}
        return repr(set_keys if len(set_keys) > 1 else value.name)
    return repr(value)


def _line(key: str, lines: dict[str, int]) -> str:
    """The line that sets a key or the group around it; "" if the file has neither."""
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return str(lines[key]) if key else ""


def _lines_of(file: Path) -> dict[str, int]:
    """ "group.key" -> the last line of a config file that sets it: dict(key=…), {"key": …}, or an
    assignment to group["key"] or config.group.key."""
    lines: dict[str, int] = {}

    def visit(node: ast.AST, path: tuple[str, ...]) -> None:
        if isinstance(node, ast.Call):
            for argument in node.args:
                visit(argument, path)
            parts = [(keyword.arg, keyword.value, keyword.lineno) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            names = [k.value if isinstance(k, ast.Constant) else None for k in node.keys]
            parts = [(n, v, v.lineno) for n, v in zip(names, node.values, strict=True)]
        else:
            return
        for name, value, line in parts:
            if name is not None:
                lines[".".join((*path, name))] = line
                visit(value, (*path, name))

    def target(node: ast.AST) -> tuple[str, ...]:
        if isinstance(node, ast.Attribute):
            return (*target(node.value), node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return (*target(node.value), str(node.slice.value))
        return (node.id,) if isinstance(node, ast.Name) else ()

    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Return):
            visit(node.value, ())
        if isinstance(node, ast.Assign):
            for path in {target(node.targets[0]), target(node.targets[0])[1:]}:
                if path:
                    lines[".".join(path)] = node.lineno
                visit(node.value, path)
    return lines

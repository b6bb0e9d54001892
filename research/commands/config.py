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
    """Prints every key with its value, its default, where it was set and what it means.

    Args:
        keys: only the keys that have this in their name or their meaning.
    """
    written = config_file.values(config)
    loaded = configs.override(written, overrides, config, to_run=False)
    known = config_keys.of_config()
    if loaded.task is not None:
        known |= config_keys.of_task(name_of(loaded.task))
    values = dict(_values(loaded, known))
    shown = [key for key in values if keys.lower() in f"{key} {known[key].meaning}".lower()]
    if not shown:  # a name that it has elsewhere
        shown = [key for key in config_keys.meant(keys) if key in values]
    if not shown:
        raise UserError(f"config: no key has {keys!r} in its name or its meaning")
    in_file, by_hand = configs.flat(written), set(overrides)
    for rivals in (config_check.LENGTHS, config_check.RHYTHMS):
        keys_of = {f"train.{key}" for key in rivals}
        if keys_of & by_hand:  # one that is given takes the place of the file's
            by_hand |= keys_of & in_file.keys()
    file = config.partition(":")[0]
    lines = _lines_of(Path(shipped.beside(file)))
    for key in shown:
        place = ""
        if _covered(key, by_hand):
            place = "command line"
        elif _covered(key, in_file):
            place = ":".join(filter(None, (file, _line(key, lines))))
        elif key.startswith("model.") and (preset := loaded.model.preset):
            place = f"preset {preset}"
        print("\n".join(_shown(key, values[key], known[key], place)))
    try:
        config_check.check(loaded, config)
    except UserError as error:
        print(f"\nit cannot run yet: {error}")
    return 0


def _values(config: Config, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The value of each key, but for groups and what is within a group that is left out."""
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
    """Whether one of these keys is it, a group that it is in, or a part of it."""
    return any(f"{key}.".startswith(f"{k}.") or k.startswith(f"{key}.") for k in by)


def _shown(key: str, value: Any, about: Key, place: str) -> Iterator[str]:
    """The lines of a key: value and origin, and indented below them the meaning."""
    told = "the checkpoint's" if place == "preset checkpoint" else _text(value)
    same = value == about.default and told == _text(value)
    if same and place.startswith("preset"):
        place = ""
    default = "default" if same else f"default {_text(about.default)}"
    default = "no default" if about.default is config_keys.REQUIRED else default
    state = ", ".join(filter(None, (place, default)))
    wrap = textwrap.TextWrapper(WIDTH, break_on_hyphens=False, break_long_words=False)
    wrap.subsequent_indent = "    "
    yield from wrap.wrap(f"{key} = {told}  ({state})")
    wrap.initial_indent = wrap.subsequent_indent = "      "
    yield from wrap.wrap(f"{about.meaning} {about.valid}")


def _text(value: Any) -> str:
    """As a config file would say it; a source without the keys that it leaves out."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, SourceConfig):
        fields = [(f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value)]
        set_ones = {name: found for name, found, default in fields if found != default}
        return repr(set_ones if len(set_ones) > 1 else value.name)
    return repr(value)


def _line(key: str, lines: dict[str, int]) -> str:
    """The line that sets a key or else the group around it; "" where the file does not show it."""
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return str(lines[key]) if key else ""


def _lines_of(file: Path) -> dict[str, int]:
    """ "group.key" -> the line of a config file that writes it: in dict(key=…), in {"key": …}, or
    in an assignment to group["key"] or config.group.key. The last one counts."""
    found: dict[str, int] = {}

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
                found[".".join((*path, name))] = line
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
                    found[".".join(path)] = node.lineno
                visit(node.value, path)
    return found

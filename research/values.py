"""Converts values of configs, experiment files and flags to annotated types, and checks them.

An annotation is int, float, str, bool, Any, a Literal, X | None, tuple[X, ...], Mapping[str, X] or
a dataclass of these. `Annotated` adds a rule: a `Range`, or a function that returns what is wrong
with a value, as the rest of a sentence that begins with the value, or "".
"""

import ast
import dataclasses
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from research.errors import UserError, nearest

SHOWN = 100  # characters of a wrong value
STRINGS = """a list, such as '["a", "b"]'"""
DICT = """a dict, such as '{"a": "b"}'"""
BASIC = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "None",
}


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `ends` says which bounds are included, as in "[0, 1)"."""

    low: float
    high: float = math.inf
    ends: str = "[]"

    def __contains__(self, value: float) -> bool:
        above = value > self.low or (value == self.low and self.ends[0] == "[")
        return above and (value < self.high or (value == self.high and self.ends[1] == "]"))

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"of at least {self.low}" if self.ends[0] == "[" else f"above {self.low}"
        if self.ends == "[]":
            return f"from {self.low} to {self.high}"
        return f"in {self.ends[0]}{self.low}, {self.high}{self.ends[1]}"


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        return f"is not a regular expression ({error})"
    return ""


def _filled(text: str) -> str:
    return "" if text else "is empty"


def _name(text: str) -> str:
    fits = re.fullmatch(r"\.*[\w+=-][\w.+=-]*", text)  # neither ".." nor with a separator
    return "" if fits else "is not a name: it is made of letters, digits and _ - + . ="


Count = Annotated[int, Range(0)]
Size = Annotated[int, Range(1)]
Amount = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, ends="(]")]
Share = Annotated[float, Range(0, 1)]
Fraction = Annotated[float, Range(0, 1, "[)")]  # a share below 1
Seed = Annotated[int, Range(0, 2**32 - 1)]  # jax would silently drop higher bits
Pattern = Annotated[str, _expression]
Filled = Annotated[str, _filled]
Name = Annotated[str, _name]  # of a folder


class UnknownKeyError(UserError):
    """`key` is not among the `valid` keys of `group`."""

    def __init__(self, group: str, key: str, valid: list[str]):
        super().__init__(f"{group}.{key} is not a key{nearest(key, valid)}")
        self.group, self.key, self.valid = group, key, valid


class MissingKeyError(UserError):
    """`group` lacks `key`, which has no default."""

    def __init__(self, group: str, key: str):
        super().__init__(f"{group}.{key} is missing")
        self.key = key


def convert(kind: Any, value: Any, where: str) -> Any:
    """Converts `value` to the annotation `kind`: whole numbers to floats, lists to tuples, dicts to
    dataclasses of configs.

    Args:
        where: name of the value in a message, such as "config.train.steps".

    Raises UserError for a value of another type or out of range, and for an unknown or missing key
    of a dataclass.
    """
    if not _fits(kind, value):
        raise _refused(kind, value, f"{where}={_shown(value)}", where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        kind, rule = args
        if not isinstance(rule, Range) and (wrong := rule(value)):
            raise UserError(f"{where}={_shown(value)} {wrong}")
        return convert(kind, value, where)
    if _is_union(origin):
        return convert(next(arg for arg in args if _fits(arg, value)), value, where)
    if origin is tuple:
        return tuple(convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        return {
            convert(args[0], key, f"{where}, key"): convert(args[1], item, f"{where}[{key!r}]")
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(kind):
        return fill(kind, value, where)
    if origin is Literal and value is None:  # the command line reads "none" as None
        return "none"
    return float(value) if kind is float else value


def fill(kind: type, value: Any, where: str) -> Any:
    """Makes a dataclass from a dict of its keys, from an instance of it, or from a string, which
    is the value of its key `alone`."""
    if isinstance(value, str):
        value = {kind.alone: value}
    if not isinstance(value, Mapping):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    fields, kinds = {field.name: field for field in dataclasses.fields(kind)}, hints(kind)
    filled = {}
    for name, item in value.items():
        if name not in fields:
            raise UnknownKeyError(where, name, list(fields))
        # An empty dict becomes the default (), which is hashable.
        empty = not item and fields[name].default == ()
        filled[name] = () if empty else convert(kinds[name], item, f"{where}.{name}")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in filled:
            raise MissingKeyError(where, name)
    return kind(**filled)


def from_text(kind: Any, text: str, where: str) -> Any:
    """Converts the text of a flag: unchanged if `kind` is a string, else read as a Python literal.

    Raises UserError as `convert` does.
    """
    value = text if _fits(kind, text) else literal(text)
    if not _fits(kind, value):
        raise _refused(kind, value, f"{where}={text}", where)
    return convert(kind, value, where)


def literal(text: str) -> Any:
    """Reads a text as a Python literal; a text that is not a literal stays a string."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """The annotations of a dataclass's keys, with their `Annotated` rules."""
    return typing.get_type_hints(kind, include_extras=True)


def meanings(kind: type) -> dict[str, str]:
    """Key -> its meaning, from "Attributes:" in the dataclass's docstring."""
    import docstring_parser  # here, so that the command line can say which package is missing

    parts = docstring_parser.parse(inspect.cleandoc(kind.__doc__)).params
    return {part.arg_name: " ".join(part.description.split()) for part in parts}


def meant(kind: Any) -> str:
    """Describes an annotation in words: "a number in [0, 1)"."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return f"{meant(args[0])} {args[1]}" if isinstance(args[1], Range) else meant(args[0])
    if _is_union(origin):
        return " or ".join(map(meant, args))
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is tuple:
        return STRINGS if meant(args[0]) == BASIC[str] else f"a list, each {meant(args[0])}"
    if origin is Mapping:
        return DICT if args[1] in (str, Any) else f"a dict, each value {meant(args[1])}"
    if _is_group(kind):
        return "a group of keys"
    return BASIC.get(kind) or _named(kind)


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value has the type and is in range; the items within it are not checked."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _fits(args[0], value) and (not isinstance(args[1], Range) or value in args[1])
    if _is_union(origin):
        return any(_fits(arg, value) for arg in args)
    if origin is Literal:
        return value in args or (value is None and "none" in args)
    if origin is tuple:
        return isinstance(value, list | tuple)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if _is_group(kind) and not isinstance(value, kind):
        return isinstance(value, Mapping) or (isinstance(value, str) and hasattr(kind, "alone"))
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind in BASIC:
        return type(value) is kind
    return kind is Any or isinstance(value, kind)


def _is_union(origin: Any) -> bool:
    return origin in (typing.Union, types.UnionType)


def _is_group(kind: Any) -> bool:
    """Whether `kind` is a dataclass of a config, which a dict may replace."""
    return dataclasses.is_dataclass(kind) and kind.__name__.endswith("Config")


def _refused(kind: Any, value: Any, pair: str, where: str) -> UserError:
    """The error for a wrong value; pair: "NAME=VALUE"."""
    if typing.get_origin(kind) is Literal:
        return UserError(f"{pair} is not valid{nearest(str(value), typing.get_args(kind))}")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hint = "; give its name" if kind is str else ""
        return UserError(f"{where} must be {meant(kind)}, not {_named(type(value))}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        return UserError(f"{pair} must be a finite number")
    return UserError(f"{pair} must be {meant(kind)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _named(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"

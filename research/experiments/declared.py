"""What the file of an experiment or a search declares, checked before anything is made of it."""

import dataclasses
import math
import re
import reprlib
import types
import typing
from typing import Any

from research.errors import UserError

NAME = re.compile(r"\.*[\w+=-][\w.+=-]*")  # of a folder: neither ".." nor with a separator
MEANT = {
    str: "a string",
    int: "a whole number",
    float: "a finite number",
    bool: "True or False",
    type(None): "None",
}


def check(value: Any, kind: Any, where: str) -> None:
    """Raises UserError for a value, or one within it, that is not of its type.

    Args:
        kind: a dataclass, or the annotation of a field.
        where: the name of the value, "FILE.py: Experiment.runs['a'].seeds".
    """
    if not _fits(value, kind):
        raise UserError(f"{where} must be {_meant(kind)}, not {_shown(value, kind)}")
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if _is_union(kind):
        check(value, next(arg for arg in args if _fits(value, arg)), where)
    elif origin is tuple:
        for number, item in enumerate(value):
            check(item, args[0], f"{where}[{number}]")
    elif origin is not None:
        for key, item in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where} has the key {key!r}, which must be a string")
            check(item, args[1], f"{where}[{key!r}]")
    elif dataclasses.is_dataclass(kind):
        for name, hint in typing.get_type_hints(kind).items():
            check(getattr(value, name), hint, f"{where}.{name}")


def check_name(name: str, what: str) -> None:
    """Raises UserError for a name that no folder can have."""
    if not NAME.fullmatch(name):
        raise UserError(f"{what} {name!r}: a name is made of letters, digits and _ - + . =")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, what is within it left aside."""
    if kind is Any:
        return True
    if _is_union(kind):
        return any(_fits(value, arg) for arg in typing.get_args(kind))
    origin = typing.get_origin(kind) or kind
    if origin is tuple:
        return isinstance(value, tuple | list)
    if origin in (int, float) and isinstance(value, bool):
        return False
    if origin is float:
        return isinstance(value, int) or isinstance(value, float) and math.isfinite(value)
    return isinstance(value, origin)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _meant(kind: Any) -> str:
    """A type in words."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if _is_union(kind):
        return " or ".join(map(_meant, args))
    if origin is tuple:
        return f"a tuple, each item {_meant(args[0])}"
    if origin is not None:
        return "a dict" if args[1] is Any else f"a dict, each value {_meant(args[1])}"
    return MEANT.get(kind) or _named(kind)


def _named(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


def _shown(value: Any, kind: Any) -> str:
    """A value in the place of which one of `kind` was meant."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _named(type(value)) + ("; give its name" if kind is str else "")
    return f"{reprlib.repr(value)} ({type(value).__name__})"

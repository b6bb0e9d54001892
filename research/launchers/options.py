"""`--on.KEY=VALUE` to the frozen dataclass of a target; every wrong key or value dies here."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from research.errors import UserError, nearest
from research.verbs import whole

T = TypeVar("T")


def fill(kind: type[T], given: Mapping[str, str], target: str) -> T:
    """The options of a target from the command line's text.

    Raises UserError for an unknown key, a value of another type, and what is needed and not given.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    kinds = typing.get_type_hints(kind)
    for name in given:
        if name not in fields:
            raise UserError(f"--on.{name} is not an option of --on={target}{nearest(name, fields)}")
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in given:
            raise UserError(f"--on={target} needs --on.{name}=…; docs/launching.md lists them")
    values = {name: _value(fields[name], kinds[name], text) for name, text in given.items()}
    return kind(**values)


def _value(field: dataclasses.Field, kind: type, text: str) -> Any:
    flag = f"on.{field.name}"
    if kind is int:
        return whole(flag, text, least=0 if field.default == 0 or "restarts" in field.name else 1)
    if kind is bool:
        if text not in ("true", "false"):
            raise UserError(f"--{flag}={text} must be true or false")
        return text == "true"
    if not text.strip():
        raise UserError(f"--{flag} is empty")
    return text

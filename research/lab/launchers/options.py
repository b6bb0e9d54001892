"""Converts `--on.KEY=VALUE` to the frozen dataclass of a target and checks keys and values."""

from collections.abc import Mapping
from typing import TypeVar

from research import values
from research.errors import UserError, nearest

T = TypeVar("T")


def fill(kind: type[T], options: Mapping[str, str], target: str) -> T:
    """Builds the options of a target from strings of the command line.

    Raises UserError for an unknown key, a value of the wrong type, or a missing option.
    """
    kinds = values.hints(kind)
    for name in options.keys() - kinds.keys():
        raise UserError(f"--on.{name} is not an option of --on={target}{nearest(name, kinds)}")
    typed = {n: values.from_text(kinds[n], text, f"--on.{n}") for n, text in options.items()}
    try:
        return values.fill(kind, typed, "--on")
    except values.MissingKeyError as error:
        raise UserError(
            f"--on={target} needs --on.{error.key}=…; docs/launching.md lists them"
        ) from error

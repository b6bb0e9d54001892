"""Flags that are numbers."""

import math

from research.errors import UserError


def whole(flag: str, text: str, least: int = 1) -> int:
    """Raises UserError for what is not a whole number from `least`."""
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"--{flag}={text} must be a whole number from {least}")
    return int(text)


def number(flag: str, text: str) -> float:
    """Raises UserError for what is not a finite number."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"--{flag}={text} must be a number")
    return found

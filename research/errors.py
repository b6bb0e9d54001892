"""Errors meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input: the message says what was wrong, where, and what would be right.

    `launch.py` prints the message without a traceback and exits with code 2.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """Says which valid name is meant: "; did you mean 'x'? valid: a, b, x"."""
    names = sorted(str(v) for v in valid)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} valid: {', '.join(names)}" if names else f"{hint} there are none"

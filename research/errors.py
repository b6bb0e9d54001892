"""Errors meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable

# Exit codes beside 0 (done), 1 (an error of ours), 2 (wrong input) and 130 (stopped).
DIVERGED, HUNG, NOT_SAVED = 3, 4, 5


class UserError(Exception):
    """Wrong input: the message says what was wrong, where, and what would be right.

    `launch.py` prints the message without a traceback and exits with code 2.
    """


class Diverged(Exception):
    """Training has left what it can come back from, or what it left is measured: the message says
    at which step, and what to try. `launch.py` exits with code `DIVERGED`, and nothing starts it
    again."""


class NotSavedError(Exception):
    """The last state of a run could not be saved, though it was tried for minutes.

    `launch.py` prints the message without a traceback and exits with code `NOT_SAVED`.
    """


def nearest(name: str, valid: Iterable[str], shown: int = 100) -> str:
    """Says which valid name is meant: "; did you mean 'x'? valid: a, b, x", `shown` at most."""
    names = sorted(str(v) for v in valid)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    if not names:
        return f"{hint} there are none"
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{hint} valid: {', '.join(names[:shown])}{more}"

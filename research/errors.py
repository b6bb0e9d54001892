"""Errors meant for the person at the keyboard, and how a program ends with them."""

import difflib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# Exit codes beside 0 (done), 1 (an error of ours), 2 (wrong input) and 130 (stopped).
DIVERGED, HUNG, NOT_SAVED = 3, 4, 5
SECONDS_AFTER = 0.1  # until an interrupt that was swallowed comes again


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


def at_most(items: Sequence[str], most: int) -> list[str]:
    """The first `most` of what is listed, and how many there are more."""
    more = len(items) - most
    return [*items[:most], f"… and {more} more"] if more > 0 else list(items)


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The keys, sorted, whose values differ; None is as good as no value."""
    return sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))


def guarded(run: Callable[[], int]) -> int:
    """The exit code of `run`, what went wrong told in a few lines where users can mend it."""
    before, sys.unraisablehook = sys.unraisablehook, _interrupted_again
    try:
        return run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED
    except NotSavedError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_SAVED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("research", ""):
            raise
        print(
            f"error: the package {error.name!r} is not installed for {sys.executable}; "
            "`make setup` installs everything into .venv: use .venv/bin/python",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt as error:
        print(": ".join(filter(None, ("interrupted", str(error)))), file=sys.stderr)
        return 130
    except BrokenPipeError:  # `launch.py data … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a disk that is full, a folder that may not be written to
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # jax's own errors are of this kind
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(
            f"error: the device is out of memory: {str(error).splitlines()[0]:.200}\n"
            "a lower config.train.batch_size, a higher config.train.accumulation, "
            "config.model.remat=block or more devices in config.mesh.fsdp need less",
            file=sys.stderr,
        )
        return 1
    finally:
        sys.unraisablehook = before


def _interrupted_again(unraisable: Any) -> None:
    """A Ctrl-C that came while Python called back from its garbage collector, which ignores what is
    raised there: it comes again. Anything else is told as ever."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(SECONDS_AFTER, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    elif str(unraisable.exc_value) != "Event loop is closed":  # so ends what a failed save left
        sys.__unraisablehook__(unraisable)

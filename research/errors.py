"""Errors that users can mend, and the exit codes of a program that meets them."""

import difflib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# Exit codes beside 0 (done), 1 (an error of ours), 2 (wrong input) and 130 (stopped).
DIVERGED, HUNG, NOT_SAVED = 3, 4, 5
SECONDS_AFTER = 0.1  # after which a swallowed interrupt is raised again


class UserError(Exception):
    """Wrong input: the message says what was wrong, where, and what would be right.

    `launch.py` prints the message without a traceback and exits with code 2.
    """


class Diverged(Exception):
    """Training has diverged, or an evaluation is of diverged weights. The message says what is not
    finite and what to try. `launch.py` exits with code `DIVERGED`, which no launcher restarts."""


class NotSavedError(Exception):
    """The last state of a run could not be saved, even after retries.

    `launch.py` prints the message without a traceback and exits with code `NOT_SAVED`.
    """


def nearest(name: str, valid: Iterable[str], shown: int = 100) -> str:
    """A hint for a wrong name: "; did you mean 'x'? valid: a, b, x", with at most `shown` names."""
    names = sorted(str(v) for v in valid)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    if not names:
        return f"{hint} there are none"
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{hint} valid: {', '.join(names[:shown])}{more}"


def at_most(items: Sequence[str], most: int) -> list[str]:
    """The first `most` items, followed by a line with the number of the others."""
    more = len(items) - most
    return [*items[:most], f"… and {more} more"] if more > 0 else list(items)


def differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """The keys, sorted, whose values differ; None counts as a missing value."""
    return sorted(k for k in left.keys() | right.keys() if left.get(k) != right.get(k))


def guarded(run: Callable[[], int]) -> int:
    """Calls `run` and returns its exit code; errors that users can mend become a few lines."""
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
    except BrokenPipeError:  # `launch.py data … | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a folder that is not writable
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # the base class of jax's own errors
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(
            f"error: the device is out of memory: {str(error).splitlines()[0]:.200}\n"
            "a lower config.train.batch_size, a higher config.train.accumulation, "
            "config.model.remat=block or more devices in config.mesh.fsdp use less",
            file=sys.stderr,
        )
        return 1
    finally:
        sys.unraisablehook = before


def _interrupted_again(unraisable: Any) -> None:
    """Raises a Ctrl-C again that came during a callback of the garbage collector, which ignores
    exceptions. Other exceptions are printed as usual."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(SECONDS_AFTER, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    elif str(unraisable.exc_value) != "Event loop is closed":  # the remains of a failed save
        sys.__unraisablehook__(unraisable)

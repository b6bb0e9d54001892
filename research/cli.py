"""The command line: verbs, their flags, and how errors end. Thin: what a verb does is elsewhere."""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from research import huge_pages
from research.errors import UserError, nearest
from research.verbs import PROCESSES, VERBS, Verb

PATHS = (
    "config",
    "workdir",
    "checkpoint",
    "source",
    "input",
    "output",
)  # flags that are never empty
HELP = ("help", "-h", "--help")
SECONDS_AFTER = 0.1  # until an interrupt that was swallowed comes again


def usage(only: str = "") -> str:
    """All verbs with their flags, or one of them with what they mean."""
    if only:
        return "\n".join(described(f"python launch.py {only}", VERBS[only]))
    lines = ["usage: python launch.py VERB --flag=value …", ""]
    for name, verb in VERBS.items():
        lines += [f"  {name}", f"      {verb.help}", f"      {' '.join(_flags(verb))}"]
    return "\n".join([*lines, "", "python launch.py VERB --help says what its flags mean."])


def _flags(verb: Verb) -> dict[str, str]:
    """How its flags are written, with their meanings."""
    several = "s" if verb.names.endswith("s") else ""
    found = {f"{verb.names.upper()}…": f"the folder{several} of the {verb.names}"}
    found = found if verb.names else {}
    found |= {f"--{flag}=…": about for flag, about in verb.required.items()}
    found |= {f"[--{flag}=…]": about for flag, about in verb.optional.items()}
    found |= {f"[--{flag}]": about for flag, about in verb.switches.items()}
    found |= {"[--on.KEY=VALUE …]": "options of --on, docs/launching.md"} if verb.launches else {}
    if verb.overrides:
        found["[--config.KEY=VALUE …]"] = "in place of the config's own, docs/configuration.md"
    return found


def described(command: str, verb: Verb) -> list[str]:
    """How a verb is called, what it does, and what its flags mean."""
    flags = _flags(verb)
    width = max(map(len, flags))
    lines = [f"  {flag:<{width}}  {about}" for flag, about in flags.items()]
    return [f"{command}: {verb.help}", "", *lines]


def parse(name: str, verb: Verb, arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(flags, overrides of the config) of a verb. Raises UserError naming what is not valid."""
    known = (*verb.required, *verb.optional, *verb.switches)
    flags: dict[str, Any] = {verb.names: []} if verb.names else {}
    overrides: dict[str, str] = {}
    items = list(arguments)
    while items:
        item = items.pop(0)
        if verb.names and not item.startswith("--"):
            flags[verb.names].append(item)
            continue
        if not item.startswith("--"):
            raise UserError(f"{name}: {item!r} is no flag; flags are written --name=value")
        flag, equals, value = item[2:].partition("=")
        if flag in verb.switches:
            value, equals = _switch(name, flag, value if equals else "true"), "="
        key = flag.removeprefix("config.")
        is_override = verb.overrides and flag != key
        is_option = verb.launches and flag.startswith("on.")
        if flag not in known and not is_override and not is_option:
            raise UserError(f"{name}: no flag --{flag}{nearest(flag, known)}")
        if not equals:
            if not items or items[0].startswith("--"):
                raise UserError(f"{name}: --{flag} needs a value: --{flag}=…")
            value = items.pop(0)
        if not value and flag in PATHS:
            raise UserError(f"{name}: --{flag} is empty; give a path: --{flag}=…")
        if flag in verb.repeated:
            flags.setdefault(flag, []).append(value)
            continue
        given, where = (overrides, key) if is_override else (flags, flag)
        if where in given:
            raise UserError(f"{name}: --{flag} is given twice")
        given[where] = value
    for flag in verb.required:
        if flag not in flags:
            raise UserError(f"{name}: --{flag} is missing; see python launch.py {name} --help")
    if verb.names and not flags[verb.names]:
        raise UserError(f"{name}: which {verb.names}? See python launch.py {name} --help")
    return flags, overrides


def _switch(name: str, flag: str, value: str) -> str:
    """What verbs take for true and for false: "true" and "". Raises UserError for another value."""
    if value.lower() not in ("true", "false"):
        raise UserError(f"{name}: --{flag}={value} must be true or false; alone it means true")
    return "true" if value.lower() == "true" else ""


def execute(name: str, verb: Verb, arguments: Sequence[str]) -> int:
    """Runs a verb; returns the exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""

    def run() -> int:
        flags, overrides = parse(name, verb, arguments)
        # What is launched elsewhere joins the others there.
        elsewhere = flags.get("on", "local") != "local" or flags.get("dry_run")
        given = [flag for flag in PROCESSES if flag in flags]
        if elsewhere and given:
            raise UserError(f"{name}: --{given[0]} is for a process that runs here, without --on")
        if set(PROCESSES) <= set(verb.optional) and not elsewhere:
            join = importlib.import_module("research.commands.processes").join
            join(*(flags.pop(flag, "") for flag in PROCESSES))
        module, function = verb.target.split(":")
        command = getattr(importlib.import_module(module), function)
        return command(**flags, **({"overrides": overrides} if verb.overrides else {})) or 0

    code = guarded(run)
    if "research.sharding.processes" in sys.modules:
        sys.modules["research.sharding.processes"].ending(code)
    return code


def guarded(run: Callable[[], int]) -> int:
    """The exit code of `run`, what went wrong told in a few lines where users can mend it."""
    before, sys.unraisablehook = sys.unraisablehook, _interrupted_again
    try:
        return run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("research", ""):
            raise
        print(
            f"error: the package {error.name!r} is not installed for {sys.executable}; "
            "`make setup` installs everything into .venv: use .venv/bin/python",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
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
    else:
        sys.__unraisablehook__(unraisable)


def program(name: str, verb: Verb) -> int:
    """A module with one verb as a program of its own (`python -m NAME --flag=…`): its exit code."""
    huge_pages.use()
    if sys.argv[1:2] and sys.argv[1] in HELP:
        print("\n".join(described(f"python -m {name}", verb)))
        return 0
    return execute(name.rpartition(".")[2], verb, sys.argv[1:])


def main(arguments: Sequence[str]) -> int:
    """The command line after `python launch.py`; returns the exit code (see `execute`)."""
    if not arguments or arguments[0] in HELP:
        print(usage())
        return 0
    name, *rest = arguments
    if name not in VERBS:
        print(f"error: no verb {name!r}{nearest(name, VERBS)}", file=sys.stderr)
        return 2
    if rest and rest[0] in HELP:
        print(usage(name))
        return 0
    return execute(name, VERBS[name], rest)

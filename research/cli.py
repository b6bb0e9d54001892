"""The command line: parses flags, calls the verb's function, and turns errors into exit codes."""

import importlib
import sys
import textwrap
import typing
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from research import huge_pages, values
from research.errors import UserError, guarded, nearest
from research.verbs import PROCESSES, VERBS, Verb

HELP = ("help", "-h", "--help")
WRITTEN = "; flags are written --name=value"
# Names of verbs and flags in other tools -> ours.
MEANT = {
    "finetune": "train",
    "fine-tune": "train",
    "pretrain": "train",
    "fit": "train",
    "test": "evaluate",
    "sample": "generate",
    "convert": "import",
    "sweep": "search",
    "model": "checkpoint",
    "prompt": "text",
    "text": "prompt",
    "max_new_tokens": "max_tokens",
    "num_beams": "beams",
    "num_return_sequences": "samples",
    "output_dir": "workdir",
    "file": "input",
}


def usage(only: str = "") -> str:
    """The help: all verbs with their flags, or one verb with the meanings of its flags."""
    if only:
        return "\n".join(described(f"python launch.py {only}", VERBS[only]))
    lines = ["usage: python launch.py VERB --flag=value …", ""]
    for name, verb in VERBS.items():
        lines += [f"  {name}", f"      {verb.help}", f"      {' '.join(_flags(verb))}"]
    return "\n".join([*lines, "", "python launch.py VERB --help explains its flags."])


def _flags(verb: Verb) -> dict[str, str]:
    """Flags as they are written -> their meanings."""
    several = "s" if verb.names.endswith("s") else ""
    flags = {f"{verb.names.upper()}…": f"folder{several} of the {verb.names}"}
    flags = flags if verb.names else {}
    for name, flag in verb.flags.items():
        written = f"--{name}" if flag.kind is bool else f"--{name}=…"
        written = f"{name.upper()} or {written}" if name == verb.text else written
        flags[written if name in verb.required else f"[{written}]"] = flag.meaning
    flags |= {"[--on.KEY=VALUE …]": "options of --on, docs/launching.md"} if verb.launches else {}
    if verb.overrides:
        flags["[--config.KEY=VALUE …]"] = "sets a key of the config; `launch.py config` lists them"
    return flags


def described(command: str, verb: Verb) -> list[str]:
    """The help of one verb, as lines: its command, its purpose and its flags."""
    flags = _flags(verb)
    width = max(map(len, flags))
    beside = " " * (width + 4)
    lines = [
        textwrap.fill(f"  {flag:<{width}}  {about}", 120, subsequent_indent=beside)
        for flag, about in flags.items()
    ]
    return [f"{command}: {verb.help}", "", *lines]


class Parsed(NamedTuple):
    """Flags by name; overrides and options: the texts of --config.KEY and --on.KEY by key."""

    flags: dict[str, Any]
    overrides: dict[str, str]
    options: dict[str, str]


def parse(name: str, verb: Verb, arguments: Sequence[str]) -> Parsed:
    """Parses a verb's arguments; of a repeated flag the last value counts (a tuple collects all).

    Raises UserError naming the argument that is not valid.
    """
    flags: dict[str, Any] = {}
    overrides: dict[str, str] = {}
    options: dict[str, str] = {}
    keyed = {"config.": overrides} if verb.overrides else {}
    keyed |= {"on.": options} if verb.launches else {}
    bare: list[str] = []  # positional arguments
    items = list(arguments)
    while items:
        item = items.pop(0)
        if not item.startswith("--"):
            bare.append(_bare(name, item, verb.flags))
            continue
        flag, equals, value = item[2:].partition("=")
        group = next((group for group in keyed if flag.startswith(group)), "")
        if flag not in verb.flags and not group:
            raise UserError(f"{name}: no flag --{flag}{_meant(verb, flag)}")
        kind = verb.flags[flag].kind if flag in verb.flags else str
        if not equals and kind is bool:
            value = "true"
        elif not equals:
            if not items or items[0].startswith("--"):
                raise UserError(f"{name}: --{flag} needs a value: --{flag}=…")
            value = items.pop(0)
        if group:
            keyed[group][flag.removeprefix(group)] = value
        elif typing.get_origin(kind) is tuple:
            one = values.from_text(typing.get_args(kind)[0], value, f"{name}: --{flag}")
            flags[flag] = (*flags.get(flag, ()), one)
        else:
            flags[flag] = values.from_text(kind, value, f"{name}: --{flag}")
    if verb.names:
        flags[verb.names] = bare
    elif bare and not verb.text:
        missing = [flag for flag in verb.required if flag not in flags]
        hint = f"; did you mean --{missing[0]}={bare[0]}?" if missing else WRITTEN
        raise UserError(f"{name}: {bare[0]!r} is not a flag{hint}")
    elif len(bare) > 1:
        raise UserError(
            f"{name}: {bare[0]!r} and {bare[1]!r} are two texts; put quotation marks around one of "
            "several words"
        )
    elif bare:
        flags[verb.text] = bare[0]
    for flag in verb.required:
        if flag not in flags:
            raise UserError(f"{name}: --{flag} is missing; see python launch.py {name} --help")
    if verb.names and not bare:
        raise UserError(f"{name}: which {verb.names}? See python launch.py {name} --help")
    return Parsed(flags, overrides, options)


def _bare(name: str, item: str, known: Collection[str]) -> str:
    """A positional argument. Raises UserError if it looks like a flag: "-x", "config=…"."""
    flag, equals, value = item.lstrip("-").partition("=")
    if equals and flag in known:
        raise UserError(f"{name}: did you mean --{flag}={value} for {item!r}?")
    if item.startswith("-") and item != "-":
        raise UserError(f"{name}: {item!r} is not a flag{WRITTEN}")
    return item


def _meant(verb: Verb, flag: str) -> str:
    """A hint at the flag or config key that an unknown flag probably means."""
    known = verb.flags
    if MEANT.get(flag) in known:
        return f"; did you mean --{MEANT[flag]}?"
    if flag.startswith("config."):
        return f"; these keys are as the {'file' if 'config' in known else 'checkpoint'} says"
    if verb.overrides:
        from research.config import keys as config_keys

        keys = config_keys.meant(flag)
        if keys:
            return f"; did you mean {' or '.join(f'--config.{key}' for key in keys)}?"
    own = f"; an argument of the config file is --config=FILE.py:{flag}=…"
    return nearest(flag, known) + (own if "config" in known else "")


def execute(name: str, verb: Verb, arguments: Sequence[str]) -> int:
    """Runs a verb; returns the exit code: 0 done, 1 failed, 2 wrong input, 3 diverged, 5 not saved,
    130 interrupted. (A hanging step ends the process with `errors.HUNG`.)"""

    def run() -> int:
        flags, overrides, options = parse(name, verb, arguments)
        # A launched command joins its processes there, not here.
        elsewhere = flags.get("on", "local") != "local" or flags.get("dry_run")
        own = {flag: flags.pop(flag) for flag in PROCESSES if flag in flags}
        if elsewhere and own:
            raise UserError(
                f"{name}: --{next(iter(own))} is for a process that runs here, without --on"
            )
        if set(PROCESSES) <= set(verb.optional) and not elsewhere:
            importlib.import_module("research.commands.processes").join(**own)
        module, function = verb.target.split(":")
        command = getattr(importlib.import_module(module), function)
        more = {"overrides": overrides} if verb.overrides else {}
        more |= {"options": options} if verb.launches else {}
        return command(**flags, **more) or 0

    failed: list[BaseException] = []

    def noted() -> int:
        try:
            return run()
        except BaseException as error:
            failed.append(error)
            raise

    code = 1
    try:
        code = guarded(noted)
    finally:
        if "research.sharding.peers" in sys.modules:
            sys.modules["research.sharding.peers"].ending(code, *failed)
    return code


def program(name: str, verb: Verb) -> int:
    """Runs a module that has one verb (`python -m NAME --flag=…`); returns the exit code."""
    huge_pages.use()
    if wants_help(sys.argv[1:]):
        print("\n".join(described(f"python -m {name}", verb)))
        return 0
    return execute(name.rpartition(".")[2], verb, sys.argv[1:])


def main(arguments: Sequence[str]) -> int:
    """Runs the arguments of `python launch.py`; returns the exit code (see `execute`)."""
    name, *rest = arguments or HELP[:1]
    if name in HELP and rest:  # help VERB
        name, rest = rest[0], ["--help"]
    if name in HELP:
        print(usage())
        return 0
    if name not in VERBS:
        hint = nearest(MEANT.get(name, name), VERBS)
        if name.startswith("-"):
            hint = "; the verb comes first: python launch.py VERB --flag=…"
        print(f"error: no verb {name!r}{hint}", file=sys.stderr)
        return 2
    if wants_help(rest):
        print(usage(name))
        return 0
    return execute(name, VERBS[name], rest)


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether help is asked for: by a flag anywhere, or by "help" as the first argument."""
    return arguments[:1] == ["help"] or any(item in HELP[1:] for item in arguments)

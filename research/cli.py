"""The command line: verbs, their flags, and how errors end. Thin: what a verb does is elsewhere."""

import dataclasses
import importlib
import sys
from collections.abc import Sequence

from research.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Verb:
    """`module:function` takes the flags by name and, where `config` is true, the overrides."""

    target: str
    help: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    overrides: bool = False


VERBS: dict[str, Verb] = {
    "train": Verb(
        "research.commands.train:run",
        "pre-train or fine-tune as the config says; goes on where the workdir's checkpoint is",
        required=("config", "workdir"),
        overrides=True,
    ),
    "evaluate": Verb(
        "research.commands.evaluate:run",
        "metrics of a checkpoint on its validation or test split",
        required=("checkpoint",),
        optional=("split", "output"),
        overrides=True,
    ),
    "predict": Verb(
        "research.commands.predict:run",
        "a checkpoint's predictions for one text or a file of them",
        required=("checkpoint",),
        optional=(
            "text", "text_a", "text_b", "question", "context", "tokens", "title", "input", "output",
        ),
    ),
    "generate": Verb(
        "research.commands.generate:run",
        "text that goes on from a prompt",
        required=("checkpoint", "prompt"),
        optional=("max_tokens", "temperature", "top_k", "top_p", "seed", "samples"),
    ),
    "data": Verb(
        "research.commands.data:run",
        "what the model will see: sources, counts, fill, rows decoded back to text",
        required=("config",),
        optional=("rows",),
        overrides=True,
    ),
    "experiment": Verb(
        "research.commands.experiment:run",
        "the runs of an experiment file in their order, and its table",
        required=("config",),
        optional=("only", "workdir"),
        switches=("dry_run",),
    ),
}


def usage() -> str:
    """All verbs with their flags."""
    lines = ["usage: python launch.py VERB --flag=value …", ""]
    for name, verb in VERBS.items():
        flags = [f"--{f}=…" for f in verb.required] + [f"[--{f}=…]" for f in verb.optional]
        flags += [f"[--{f}]" for f in verb.switches]
        flags += ["[--config.KEY=VALUE …]"] if verb.overrides else []
        lines += [f"  {name}", f"      {verb.help}", f"      {' '.join(flags)}"]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> tuple[Verb, dict[str, str], dict[str, str]]:
    """(verb, flags, overrides of the config). Raises UserError naming what is not valid."""
    name, *rest = arguments
    if name not in VERBS:
        raise UserError(f"no verb {name!r}{nearest(name, VERBS)}")
    verb = VERBS[name]
    known = (*verb.required, *verb.optional, *verb.switches)
    flags: dict[str, str] = {}
    overrides: dict[str, str] = {}
    items = list(rest)
    while items:
        item = items.pop(0)
        if not item.startswith("--"):
            raise UserError(f"{name}: {item!r} is no flag; flags are written --name=value")
        flag, equals, value = item[2:].partition("=")
        if flag in verb.switches and not equals:
            flags[flag] = "true"
            continue
        if flag not in known and not (verb.overrides and flag.startswith("config.")):
            raise UserError(f"{name}: no flag --{flag}{nearest(flag, known)}")
        if not equals:
            if not items or items[0].startswith("--"):
                raise UserError(f"{name}: --{flag} needs a value: --{flag}=…")
            value = items.pop(0)
        if flag.startswith("config."):
            overrides[flag.removeprefix("config.")] = value
        else:
            flags[flag] = value
    for flag in verb.required:
        if flag not in flags:
            raise UserError(f"{name}: --{flag} is missing; see python launch.py help")
    return verb, flags, overrides


def main(arguments: Sequence[str]) -> int:
    """Runs a verb; returns the exit code: 0 done, 2 wrong input, 130 interrupted."""
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(usage())
        return 0
    try:
        verb, flags, overrides = parse(arguments)
        module, function = verb.target.split(":")
        run = getattr(importlib.import_module(module), function)
        return run(**flags, **({"overrides": overrides} if verb.overrides else {})) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130

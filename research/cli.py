"""The command line: verbs, their flags, and how errors end. Thin: what a verb does is elsewhere."""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from research import huge_pages
from research.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Verb:
    """`module:function` takes the flags by name and, where `overrides` is true, those too.

    launches: it can run elsewhere, with --on and its options, --on.KEY=VALUE.
    names: what stands behind the verb without a flag, one or more of them, if anything does.
    """

    target: str
    help: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    overrides: bool = False
    launches: bool = False
    names: str = ""


# Of a run of several processes, where jax does not find them by itself.
PROCESSES = ("coordinator", "process_id", "num_processes")

VERBS: dict[str, Verb] = {
    "train": Verb(
        "research.commands.train:run",
        "pre-train or fine-tune as the config says; goes on where the workdir's checkpoint is",
        required=("config", "workdir"),
        optional=("on", *PROCESSES),
        switches=("dry_run",),
        overrides=True,
        launches=True,
    ),
    "evaluate": Verb(
        "research.commands.evaluate:run",
        "metrics of a checkpoint on its validation or test split",
        required=("checkpoint",),
        optional=("split", "output", *PROCESSES),
        overrides=True,
    ),
    "predict": Verb(
        "research.commands.predict:run",
        "a checkpoint's predictions for one text or a file of them",
        required=("checkpoint",),
        optional=(
            "text",
            "text_a",
            "text_b",
            "question",
            "context",
            "tokens",
            "title",
            "input",
            "output",
            "null_threshold",
        ),
        switches=("skip_malformed",),
    ),
    "generate": Verb(
        "research.commands.generate:run",
        "text that goes on from a prompt",
        required=("checkpoint", "prompt"),
        optional=(
            "max_tokens",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repetition_penalty",
            "seed",
            "samples",
            "beams",
            "length_penalty",
            "stop",
        ),
    ),
    "embed": Verb(
        "research.commands.embed:run",
        "vectors of the texts of a file: pooled hidden states",
        required=("checkpoint", "input", "output"),
        optional=("pooling",),
        switches=("normalize",),
    ),
    "import": Verb(
        "research.commands.import_checkpoint:run",
        "a public checkpoint (safetensors folder, GGUF file, hub name) into one of ours",
        required=("source", "output"),
    ),
    "export": Verb(
        "research.commands.export:run",
        "a checkpoint into a folder that transformers loads",
        required=("checkpoint", "output"),
    ),
    "data": Verb(
        "research.commands.data:run",
        "what the model will see: sources, counts, fill, rows as text; or tokenises part I of N",
        required=("config",),
        optional=("rows", "shard", "beam"),
        overrides=True,
    ),
    "plan": Verb(
        "research.commands.plan:run",
        "whether a run fits a TPU slice, and what it will cost there: compiled, not run",
        required=("config", "topology"),
        optional=("slices", "price"),
        overrides=True,
    ),
    "experiment": Verb(
        "research.commands.experiment:run",
        "the runs of an experiment file in their order, and its table",
        required=("config",),
        optional=("only", "parallel", "devices", "workdir", "on"),
        switches=("dry_run", "rerun_changed"),
        launches=True,
    ),
    "search": Verb(
        "research.commands.search:run",
        "the trials of a search file, hyper-parameters drawn by Optuna, and their table",
        required=("config",),
        optional=("trials", "parallel", "devices", "workdir"),
    ),
    "reproduce": Verb(
        "research.commands.reproduce:run",
        "makes a run again from its folder, and says whether its metrics are the same",
        optional=("workdir",),
        names="run",
    ),
    "report": Verb(
        "research.commands.report:run",
        "tables, curves and config differences of any runs, as Markdown, CSV, LaTeX and a page",
        optional=("output",),
        names="runs",
    ),
}


PATHS = (
    "config",
    "workdir",
    "checkpoint",
    "source",
    "input",
    "output",
)  # flags that are never empty
HELP = ("help", "-h", "--help")


def usage(only: str = "") -> str:
    """All verbs with their flags, or one of them."""
    lines = [] if only else ["usage: python launch.py VERB --flag=value …", ""]
    for name, verb in VERBS.items():
        if only in ("", name):
            lines += described(name, verb)
    return "\n".join(lines)


def described(name: str, verb: Verb) -> list[str]:
    """A verb, what it does, and its flags."""
    flags = [f"{verb.names.upper()}…"] if verb.names else []
    flags += [f"--{f}=…" for f in verb.required] + [f"[--{f}=…]" for f in verb.optional]
    flags += [f"[--{f}]" for f in verb.switches]
    flags += ["[--on.KEY=VALUE …]"] if verb.launches else []
    flags += ["[--config.KEY=VALUE …]"] if verb.overrides else []
    return [f"  {name}", f"      {verb.help}", f"      {' '.join(flags)}"]


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
        if flag in verb.switches and not equals:
            flags[flag] = "true"
            continue
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


def execute(name: str, verb: Verb, arguments: Sequence[str]) -> int:
    """Runs a verb; returns the exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""

    def run() -> int:
        flags, overrides = parse(name, verb, arguments)
        # What is launched elsewhere joins the others there.
        elsewhere = flags.get("on", "local") != "local" or "dry_run" in flags
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

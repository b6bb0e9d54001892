"""The verbs of the command line, and the meaning and type of each flag."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from research import values
from research.values import Amount, Count, Filled, Size


class Flag(NamedTuple):
    """A flag: its help text, and its type as an annotation that `values` converts to. A bool flag
    without a value is true; a tuple flag may be repeated."""

    meaning: str
    kind: Any = str


Flags = Mapping[str, Flag | str]  # a str is the meaning of a text flag


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb of `launch.py`.

    target: "module:function", called with the flags as keyword arguments.
    overrides: whether it takes --config.KEY=VALUE, passed on as a dict of texts, `overrides`.
    launches: whether it takes --on and --on.KEY=VALUE, passed on as a dict of texts, `options`.
    knobs: "module:Class", a dataclass whose fields are flags too.
    names: what its positional arguments are, "run" or "runs"; at least one is required.
    text: the flag whose value may also be the only positional argument.
    """

    target: str
    help: str
    required: Flags = dataclasses.field(default_factory=dict)
    optional: Flags = dataclasses.field(default_factory=dict)
    overrides: bool = False
    launches: bool = False
    knobs: str = ""
    names: str = ""
    text: str = ""

    @functools.cached_property
    def flags(self) -> dict[str, Flag]:
        """All flags by name, required ones first."""
        own = {**self.required, **self.optional}
        flags = {name: Flag(flag) if isinstance(flag, str) else flag for name, flag in own.items()}
        if self.knobs:
            module, name = self.knobs.split(":")
            kind = getattr(importlib.import_module(module), name)
            meanings, kinds = values.meanings(kind), values.hints(kind)
            for field in dataclasses.fields(kind):
                default = f" ({field.default:g})" if isinstance(field.default, int | float) else ""
                flag = Flag(f"{meanings[field.name].rstrip('.')}{default}", kinds[field.name])
                flags.setdefault(field.name, flag)
        return flags


CONFIG = {"config": Flag("FILE.py, or FILE.py:KEY=VALUE,… with arguments of the file", Filled)}
WORKDIR = {"workdir": Flag("folder of the run; resumes what is in it", Filled)}
CHECKPOINT = {
    "checkpoint": Flag(
        "folder of a run, of its checkpoints or of one; RUN/best; bert or gpt, which ship", Filled
    )
}
ON = {
    "on": Flag(
        "where to run: local (default), slurm, tpu_vm or gke; options: --on.KEY=VALUE",
        Literal["local", "slurm", "tpu_vm", "gke"],
    ),
}
AT_A_TIME = {
    "parallel": Flag("runs at a time; default on CPU: one per core, at most 4", Size),
    "devices": Flag(
        "GPUs or TPU chips per run, so that several runs share the machine; default: all", Size
    ),
}
# For a run of several processes that jax does not detect by itself.
PROCESSES = {
    "coordinator": "HOST:PORT of process 0, for several processes that jax does not detect",
    "process_id": Flag("index of this process, from 0", Count),
    "num_processes": Flag("number of processes", Size),
}
FIELDS = {
    "fields": Flag(
        'names of its columns where they differ, such as {"text": "review"}', Mapping[str, str]
    )
}

VERBS: dict[str, Verb] = {
    "train": Verb(
        "research.commands.train:run",
        "pre-train or fine-tune as the config says; resumes from the workdir's checkpoint",
        required=CONFIG | WORKDIR,
        optional={
            "rewind": Flag(
                "step of an earlier checkpoint to resume from, with another config.optimizer", Count
            ),
            **ON,
            "dry_run": Flag("with --on: print the commands, start nothing", bool),
            **PROCESSES,
        },
        overrides=True,
        launches=True,
    ),
    "evaluate": Verb(
        "research.commands.evaluate:run",
        "measure a checkpoint on its validation or test split",
        required=CHECKPOINT,
        optional={
            "split": "validation (default) or test",
            "output": Flag("file for the predictions, JSON Lines", Filled),
            **PROCESSES,
        },
        overrides=True,
    ),
    "predict": Verb(
        "research.commands.predict:run",
        "predict with a checkpoint, for one text or a file of them",
        required=CHECKPOINT,
        optional={
            "text": "one text (for a story task, its opening); -: read standard input",
            "text_a": "the first text of a pair",
            "text_b": "the second text",
            "question": "a question",
            "context": "the text that the question is about",
            "tokens": 'words of a sentence, as a list: ["Jack", "runs"]',
            "title": "of a story",
            "input": Flag(
                "file of examples; -: answer each line of standard input at once", Filled
            ),
            **FIELDS,
            "format": "format of the file (default: detected from its ending and first row)",
            "output": Flag(
                "file for the predictions, JSON Lines; default: standard output", Filled
            ),
            "skip_malformed": Flag("skip the lines of --input that cannot be read", bool),
        },
        overrides=True,
        text="text",
    ),
    "generate": Verb(
        "research.commands.generate:run",
        "continue a prompt",
        required=CHECKPOINT | {"prompt": "the text to continue; -: read standard input"},
        optional={
            "max_tokens": Flag("maximum number of new tokens (64)", Size),
            "samples": Flag("number of texts (1)", Size),
            "temperature": Flag(
                "divides the logits before sampling (0.8; with beams 0); 0 takes the most probable "
                "token",
                Amount,
            ),
        },
        knobs="research.generation.decoding:DecodingConfig",
        text="prompt",
    ),
    "embed": Verb(
        "research.commands.embed:run",
        "write a vector, the pooled hidden states, for each text of a file",
        required=CHECKPOINT
        | {
            "input": Flag("file of texts, one per row or line; -: lines of standard input", Filled),
            "output": Flag("file for the vectors: .npz or .jsonl", Filled),
        },
        optional={
            "pooling": "mean (default), first, last or pooler",
            **FIELDS,
            "format": "format of the file (default: detected from its ending and first row)",
            "prompt": "name of the checkpoint's prompt to put before each text",
            "normalize": Flag("scale the vectors to length 1", bool),
        },
        overrides=True,
    ),
    "verify": Verb(
        "research.commands.verify:run",
        "read every step of a checkpoint and report damage; exit code 2 if there is any",
        required=CHECKPOINT,
        text="checkpoint",
    ),
    "import": Verb(
        "research.commands.import_checkpoint:run",
        "convert a public checkpoint (safetensors folder, GGUF file, hub name) into one of ours",
        required={
            "source": Flag(
                "folder with config.json and safetensors, a .gguf, or a name on the hub", Filled
            ),
            "output": Flag("folder for the checkpoint", Filled),
        },
        optional={"labels": "A,B,…: label names for the outputs of its head, in place of its own"},
    ),
    "export": Verb(
        "research.commands.export:run",
        "write a checkpoint as a folder that transformers loads",
        required=CHECKPOINT
        | {"output": Flag("folder for config.json, safetensors and tokenizer", Filled)},
    ),
    "data": Verb(
        "research.commands.data:run",
        "show what the model will see: sources, counts, fill, rows; or tokenise part I of N",
        required=CONFIG,
        optional={
            "rows": Flag("number of rows to show (3)", Count),
            "shard": "I/N: only tokenise part I of N (from 0) of the corpus",
            "beam": "only tokenise the corpus, with Apache Beam and these options",
        },
        overrides=True,
    ),
    "config": Verb(
        "research.commands.config:run",
        "show every key of a config: its value, default, origin and meaning",
        required=CONFIG,
        optional={"keys": "only keys with this in their name or meaning, such as warm"},
        overrides=True,
        text="keys",
    ),
    "plan": Verb(
        "research.commands.plan:run",
        "compile a run for a TPU slice or GPUs: does it fit, and what will it cost?",
        required=CONFIG | {"topology": "such as v5e:4x4, h100:8x4 (GPUs x machines) or cpu:8"},
        optional={
            "slices": Flag("number of slices (1)", Size),
            "price": Flag("price of a chip for an hour", Amount),
        },
        overrides=True,
    ),
    "experiment": Verb(
        "research.commands.experiment:run",
        "make the runs of an experiment file in order, and its table",
        required=CONFIG,
        optional={
            "only": 'only runs whose name, with or without seed, matches: "sentiment*"',
            **AT_A_TIME,
            "workdir": Flag("folder of the runs (runs/NAME); resumes what is in it", Filled),
            **ON,
            "dry_run": Flag(
                "only print the runs with steps, tokens and hours (with --on: the commands)", bool
            ),
            "rerun_changed": Flag(
                "repeat runs that were made with another config, data or commit", bool
            ),
        },
        launches=True,
    ),
    "search": Verb(
        "research.commands.search:run",
        "make the trials of a search file, sampled by Optuna, and their table",
        required=CONFIG,
        optional={
            "trials": Flag("number of trials in all; default: as the file says", Size),
            **AT_A_TIME,
            "workdir": Flag("folder of the trials (runs/NAME); resumes what is in it", Filled),
        },
    ),
    "reproduce": Verb(
        "research.commands.reproduce:run",
        "repeat a run from its folder, and compare its metrics",
        optional={"workdir": Flag("folder for the repeated run (RUN-again)", Filled)},
        names="run",
    ),
    "report": Verb(
        "research.commands.report:run",
        "report runs or all in a folder: tables, curves, differences; Markdown, CSV, LaTeX, page",
        optional={
            "output": Flag("folder for the report (runs/report)", Filled),
            "price": Flag(
                "price of a GPU or TPU chip for an hour, to add up the cost of the runs", Amount
            ),
        },
        names="runs",
    ),
}

"""The verbs of the command line, their flags, and what these mean and may be."""

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from research import values
from research.values import Amount, Count, Filled, Size


class Flag(NamedTuple):
    """meaning: for the help. kind: an annotation as `values` has them. A flag that is true or false
    needs no value to be true, and one that is a tuple may be given again."""

    meaning: str
    kind: Any = str


Flags = Mapping[str, Flag | str]  # of a flag that is a text, its meaning alone


@dataclasses.dataclass(frozen=True)
class Verb:
    """`module:function` takes the flags that are given by name; where `overrides` is true, those
    too.

    launches: it can run elsewhere, with --on and its options, --on.KEY=VALUE, which it takes as a
        dict of texts, `options`.
    knobs: "module:Class", a dataclass whose keys are flags too.
    names: what the arguments without a flag are, "run" or "runs"; at least one of them is needed.
    text: the flag whose value may also be given without it, as the one argument without a flag.
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
        """All that it has, those that it needs first."""
        own = {**self.required, **self.optional}
        found = {name: Flag(flag) if isinstance(flag, str) else flag for name, flag in own.items()}
        if self.knobs:
            module, name = self.knobs.split(":")
            kind = getattr(importlib.import_module(module), name)
            meanings, kinds = values.meanings(kind), values.hints(kind)
            for field in dataclasses.fields(kind):
                default = f" ({field.default:g})" if isinstance(field.default, int | float) else ""
                flag = Flag(f"{meanings[field.name].rstrip('.')}{default}", kinds[field.name])
                found.setdefault(field.name, flag)
        return found


CONFIG = {"config": Flag("FILE.py, or FILE.py:KEY=VALUE,… with the file's own arguments", Filled)}
WORKDIR = {"workdir": Flag("folder of the run; what is in it goes on", Filled)}
CHECKPOINT = {
    "checkpoint": Flag(
        "folder of a run, of its checkpoints or of one; RUN/best; bert or gpt, which ship", Filled
    )
}
ON = {
    "on": Flag(
        "where: local (default), slurm, tpu_vm or gke; its options are --on.KEY=VALUE",
        Literal["local", "slurm", "tpu_vm", "gke"],
    ),
}
AT_A_TIME = {
    "parallel": Flag("how many at a time; on CPU one for each core, at most 4", Size),
    "devices": Flag(
        "GPUs or TPU chips of each, so that several share the machine; default: all", Size
    ),
}
# Of a run of several processes, where jax does not find them by itself.
PROCESSES = {
    "coordinator": "HOST:PORT of process 0, of a run of several processes that jax does not find",
    "process_id": Flag("which of them this is, from 0", Count),
    "num_processes": Flag("how many there are", Size),
}
FIELDS = {
    "fields": Flag(
        'its columns where they have other names, such as {"text": "review"}', Mapping[str, str]
    )
}

VERBS: dict[str, Verb] = {
    "train": Verb(
        "research.commands.train:run",
        "pre-train or fine-tune as the config says; goes on where the workdir's checkpoint is",
        required=CONFIG | WORKDIR,
        optional={
            "rewind": Flag(
                "step of a checkpoint to go back to, with another config.optimizer", Count
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
        "metrics of a checkpoint on its validation or test split",
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
        "a checkpoint's predictions for one text or a file of them",
        required=CHECKPOINT,
        optional={
            "text": "one text (of a story task: its opening); -: what comes from standard input",
            "text_a": "the first text of a pair",
            "text_b": "the second one",
            "question": "a question",
            "context": "the text that it is about",
            "tokens": 'words of a sentence, as a list: ["Jack", "runs"]',
            "title": "of a story",
            "input": Flag(
                "file of examples; -: lines of standard input, each answered at once", Filled
            ),
            **FIELDS,
            "format": "how the file keeps its examples (as its ending and its first row say)",
            "output": Flag(
                "file for the predictions, JSON Lines; default: standard output", Filled
            ),
            "skip_malformed": Flag("leave out the lines of --input that cannot be read", bool),
        },
        overrides=True,
        text="text",
    ),
    "generate": Verb(
        "research.commands.generate:run",
        "text that goes on from a prompt",
        required=CHECKPOINT | {"prompt": "the text to go on from; -: all of standard input"},
        optional={
            "max_tokens": Flag("of the new text at most (64)", Size),
            "samples": Flag("how many texts (1)", Size),
            "temperature": Flag(
                "divides the logits before a token is drawn (0.8, of beams 0); 0 takes the most "
                "probable one",
                Amount,
            ),
        },
        knobs="research.generation.decoding:DecodingConfig",
        text="prompt",
    ),
    "embed": Verb(
        "research.commands.embed:run",
        "vectors of the texts of a file: pooled hidden states",
        required=CHECKPOINT
        | {
            "input": Flag(
                "file of texts, one in each row or line; -: lines of standard input", Filled
            ),
            "output": Flag("file for the vectors: .npz or .jsonl", Filled),
        },
        optional={
            "pooling": "mean (default), first, last or pooler",
            **FIELDS,
            "format": "how the file keeps its texts (as its ending and its first row say)",
            "prompt": "name of the checkpoint's prompt that is put before each text",
            "normalize": Flag("to length 1", bool),
        },
        overrides=True,
    ),
    "verify": Verb(
        "research.commands.verify:run",
        "reads each step of a checkpoint whole, and says which are good; exit code 2 if one is not",
        required=CHECKPOINT,
        text="checkpoint",
    ),
    "import": Verb(
        "research.commands.import_checkpoint:run",
        "a public checkpoint (safetensors folder, GGUF file, hub name) into one of ours",
        required={
            "source": Flag(
                "folder with config.json and safetensors, a .gguf, or a name on the hub", Filled
            ),
            "output": Flag("folder for the checkpoint", Filled),
        },
        optional={"labels": "A,B,…: what the outputs of its head mean, in place of its own names"},
    ),
    "export": Verb(
        "research.commands.export:run",
        "a checkpoint into a folder that transformers loads",
        required=CHECKPOINT
        | {"output": Flag("folder for config.json, safetensors and tokenizer", Filled)},
    ),
    "data": Verb(
        "research.commands.data:run",
        "what the model will see: sources, counts, fill, rows as text; or tokenises part I of N",
        required=CONFIG,
        optional={
            "rows": Flag("how many rows to show (3)", Count),
            "shard": "I/N: only tokenise part I (from 0) of N of the corpus",
            "beam": "only tokenise the corpus, by Apache Beam with these options",
        },
        overrides=True,
    ),
    "config": Verb(
        "research.commands.config:run",
        "every key of a config: its value, its default, where it was set, and what it means",
        required=CONFIG,
        optional={"keys": "only those with this in their name or meaning, such as warm"},
        overrides=True,
        text="keys",
    ),
    "plan": Verb(
        "research.commands.plan:run",
        "whether a run fits a TPU slice, and what it will cost there: compiled, not run",
        required=CONFIG | {"topology": "such as v5e:4x4, v5p:8x8x8; cpu:8 for eight here"},
        optional={
            "slices": Flag("how many slices (1)", Size),
            "price": Flag("of a chip for an hour", Amount),
        },
        overrides=True,
    ),
    "experiment": Verb(
        "research.commands.experiment:run",
        "the runs of an experiment file in their order, and its table",
        required=CONFIG,
        optional={
            "only": 'runs whose name fits a pattern, with or without seed: "sentiment*"',
            **AT_A_TIME,
            "workdir": Flag("folder of the runs (runs/NAME); what is in it goes on", Filled),
            **ON,
            "dry_run": Flag(
                "print the runs with steps, tokens and hours (with --on: the commands)", bool
            ),
            "rerun_changed": Flag(
                "make again what was made with another config, data or commit", bool
            ),
        },
        launches=True,
    ),
    "search": Verb(
        "research.commands.search:run",
        "the trials of a search file, hyper-parameters drawn by Optuna, and their table",
        required=CONFIG,
        optional={
            "trials": Flag("how many in all; default: as the file says", Size),
            **AT_A_TIME,
            "workdir": Flag("folder of the trials (runs/NAME); what is in it goes on", Filled),
        },
    ),
    "reproduce": Verb(
        "research.commands.reproduce:run",
        "makes a run again from its folder, and says whether its metrics are the same",
        optional={"workdir": Flag("folder for it (RUN-again)", Filled)},
        names="run",
    ),
    "report": Verb(
        "research.commands.report:run",
        "tables, curves, config differences of runs or all in a folder: Markdown, CSV, LaTeX, page",
        optional={
            "output": Flag("folder for what is written (report)", Filled),
            "price": Flag(
                "of a GPU or TPU chip for an hour, to count what the runs have cost", Amount
            ),
        },
        names="runs",
    ),
}

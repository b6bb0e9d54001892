"""The verbs of the command line, their flags and what these mean; flags that are numbers."""

import dataclasses
import math
from collections.abc import Mapping

from research.errors import UserError

Flags = Mapping[str, str]  # flag -> its meaning


@dataclasses.dataclass(frozen=True)
class Verb:
    """`module:function` takes the flags by name and, where `overrides` is true, those too.

    launches: it can run elsewhere, with --on and its options, --on.KEY=VALUE.
    repeated: flags that may be given again, whose values are a list.
    names: what the arguments without a flag are, "run" or "runs"; at least one of them is needed.
    text: the flag whose value may also be given without it, as the one argument without a flag.
    """

    target: str
    help: str
    required: Flags = dataclasses.field(default_factory=dict)
    optional: Flags = dataclasses.field(default_factory=dict)
    switches: Flags = dataclasses.field(default_factory=dict)
    overrides: bool = False
    launches: bool = False
    repeated: tuple[str, ...] = ()
    names: str = ""
    text: str = ""


CONFIG = {"config": "FILE.py, or FILE.py:KEY=VALUE,… with the file's own arguments"}
WORKDIR = {"workdir": "folder of the run; what is in it goes on"}
CHECKPOINT = {
    "checkpoint": "folder of a run, of its checkpoints or of one; RUN/best; bert or gpt, which ship"
}
ON = {"on": "where: local (default), slurm, tpu_vm or gke; its options are --on.KEY=VALUE"}
DRY_RUN = {"dry_run": "with --on: print the commands, start nothing"}
AT_A_TIME = {
    "parallel": "how many at a time; on CPU one for each core, at most 4",
    "devices": "GPUs or TPU chips of each, so that several share the machine; default: all",
}
# Of a run of several processes, where jax does not find them by itself.
PROCESSES = {
    "coordinator": "HOST:PORT of process 0, of a run of several processes that jax does not find",
    "process_id": "which of them this is, from 0",
    "num_processes": "how many there are",
}

VERBS: dict[str, Verb] = {
    "train": Verb(
        "research.commands.train:run",
        "pre-train or fine-tune as the config says; goes on where the workdir's checkpoint is",
        required=CONFIG | WORKDIR,
        optional={"rewind": "step of a checkpoint to go back to, with another config.optimizer"}
        | ON
        | PROCESSES,
        switches=DRY_RUN,
        overrides=True,
        launches=True,
    ),
    "evaluate": Verb(
        "research.commands.evaluate:run",
        "metrics of a checkpoint on its validation or test split",
        required=CHECKPOINT,
        optional={
            "split": "validation (default) or test",
            "output": "file for the predictions, JSON Lines",
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
            "input": "file of examples; -: lines of standard input, each answered at once",
            "fields": 'its columns where they have other names, such as {"text": "review"}',
            "format": "how the file keeps its examples (as its ending and its first row say)",
            "output": "file for the predictions, JSON Lines; default: standard output",
        },
        switches={"skip_malformed": "leave out the lines of --input that cannot be read"},
        overrides=True,
        text="text",
    ),
    "generate": Verb(
        "research.commands.generate:run",
        "text that goes on from a prompt",
        required=CHECKPOINT | {"prompt": "the text to go on from; -: all of standard input"},
        optional={
            "max_tokens": "of the new text at most (64)",
            "temperature": "of the draws (0.8); 0 takes the most probable token",
            "top_k": "draw from the k most probable tokens only; 0: from all (0)",
            "top_p": "draw from the fewest tokens with this probability together (1)",
            "min_p": "leave out tokens below this share of the most probable one's (0)",
            "repetition_penalty": "above 1, what was there becomes less probable (1)",
            "seed": "of the draws (0)",
            "samples": "how many texts (1)",
            "beams": "beam search with so many; draws nothing (1: none)",
            "length_penalty": "of a beam search: the larger, the longer its texts (1)",
            "stop": r"text at which to end, such as \n; may be given again",
        },
        repeated=("stop",),
        text="prompt",
    ),
    "embed": Verb(
        "research.commands.embed:run",
        "vectors of the texts of a file: pooled hidden states",
        required=CHECKPOINT
        | {
            "input": "file of texts, one in each row or line; -: lines of standard input",
            "output": "file for the vectors: .npz or .jsonl",
        },
        optional={
            "pooling": "mean (default), first, last or pooler",
            "fields": 'its columns where they have other names, such as {"text": "review"}',
            "format": "how the file keeps its texts (as its ending and its first row say)",
            "prompt": "name of the checkpoint's prompt that is put before each text",
        },
        switches={"normalize": "to length 1"},
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
            "source": "folder with config.json and safetensors, a .gguf, or a name on the hub",
            "output": "folder for the checkpoint",
        },
        optional={"labels": "A,B,…: what the outputs of its head mean, in place of its own names"},
    ),
    "export": Verb(
        "research.commands.export:run",
        "a checkpoint into a folder that transformers loads",
        required=CHECKPOINT | {"output": "folder for config.json, safetensors and tokenizer"},
    ),
    "data": Verb(
        "research.commands.data:run",
        "what the model will see: sources, counts, fill, rows as text; or tokenises part I of N",
        required=CONFIG,
        optional={
            "rows": "how many rows to show (3)",
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
        optional={"slices": "how many slices (1)", "price": "of a chip for an hour"},
        overrides=True,
    ),
    "experiment": Verb(
        "research.commands.experiment:run",
        "the runs of an experiment file in their order, and its table",
        required=CONFIG,
        optional={
            "only": 'runs whose name fits a pattern, with or without seed: "sentiment*"',
            **AT_A_TIME,
            "workdir": "folder of the runs (runs/NAME); what is in it goes on",
            **ON,
        },
        switches={
            "dry_run": "print the runs with steps, tokens and hours (with --on: the commands)",
            "rerun_changed": "make again what was made with another config, data or commit",
        },
        launches=True,
    ),
    "search": Verb(
        "research.commands.search:run",
        "the trials of a search file, hyper-parameters drawn by Optuna, and their table",
        required=CONFIG,
        optional={
            "trials": "how many in all; default: as the file says",
            **AT_A_TIME,
            "workdir": "folder of the trials (runs/NAME); what is in it goes on",
        },
    ),
    "reproduce": Verb(
        "research.commands.reproduce:run",
        "makes a run again from its folder, and says whether its metrics are the same",
        optional={"workdir": "folder for it (RUN-again)"},
        names="run",
    ),
    "report": Verb(
        "research.commands.report:run",
        "tables, curves, config differences of runs or all in a folder: Markdown, CSV, LaTeX, page",
        optional={
            "output": "folder for what is written (report)",
            "price": "of a GPU or TPU chip for an hour, to count what the runs have cost",
        },
        names="runs",
    ),
}


def whole(flag: str, text: str, least: int = 1) -> int:
    """Raises UserError for what is not a whole number from `least`."""
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"--{flag}={text} must be a whole number from {least}")
    return int(text)


def number(flag: str, text: str) -> float:
    """Raises UserError for what is not a finite number."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"--{flag}={text} must be a number")
    return found

"""Builds ablations: variants of a pre-training, the same fine-tunings from each, and one table.

Rows differ only in the keys that a variant names; backbone, tokenizer, data, tokens seen and
fine-tunings are otherwise the same. Attention in the fine-tunings is bidirectional.
"""

from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from research.config import arguments
from research.errors import UserError, nearest
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

Overrides = Mapping[str, Any]
END_OF_TEXT = "<|endoftext|>"  # ends causal rows, so the tokenizers of all variants need it
# BERT's layers with pre-norm and rotary positions, which learn more from few tokens.
BODY = {
    "model.preset": "bert_tiny",
    "model.layers": 4,
    "model.width": 192,
    "model.heads": 3,
    "model.mlp_width": 768,
    "model.norm_place": "pre",
    "model.positions": "rope",
    "model.dropout": 0.0,
    "model.attention_dropout": 0.0,
}
SMALL = {"model.layers": 2, "model.width": 128, "model.heads": 2, "model.mlp_width": 512}


class Task(NamedTuple):
    """A fine-tuning: the name of its config in configs/finetune and of the simple baseline."""

    config: str
    method: str
    overrides: Overrides = {}


class Size(NamedTuple):
    """A scale of an ablation: the config of the pre-training, and task -> overrides that select a
    subset of its data and its epochs."""

    config: str
    steps: int
    overrides: Overrides
    subsets: Mapping[str, Overrides]


TASKS = {
    # Mean pooling: not every variant trains the pooler.
    "sentiment": Task("sentiment", "linear", {"task.pooling": "mean"}),
    "entities": Task("named_entities", "frequent_tag"),
    "questions": Task("question_answering", "overlapping_sentence"),
}
SIZES = {
    # Minutes on two CPU cores.
    "tiny": Size(
        "configs/pretrain/bert_cpu.py",
        800,
        BODY | SMALL,
        {
            "sentiment": {"data.train.percent": 30.0, "train.epochs": 2.0},
            "entities": {"data.train.percent": 10.0, "train.epochs": 2.0},
            "questions": {"data.train.percent": 15.0, "train.epochs": 2.0},
        },
    ),
    # As large as the shipped checkpoint: an hour and a half of one core each.
    "cpu": Size("configs/pretrain/bert_cpu.py", 4500, BODY, {}),
    # For accelerators; needs a larger `config.data.corpus` than the bundled one.
    "base": Size("configs/pretrain/bert.py:size=base", 100_000, {}, {}),
}


def ablation_arguments(arg: str, **defaults: Any) -> SimpleNamespace:
    """Parses the arguments of an ablation: size, steps (0: the size's own), seeds (pre-trainings of
    each variant), task_seeds (fine-tunings from each of these), and its own (`defaults`).

    Raises UserError for an unknown size, and for fewer than one seed.
    """
    args = arguments(arg, size="tiny", steps=0, seeds=3, **defaults)
    if args.size not in SIZES:
        raise UserError(
            f"config argument size={args.size!r} is not known{nearest(args.size, SIZES)}"
        )
    for name in {"seeds", "task_seeds"} & vars(args).keys():
        if getattr(args, name) < 1:
            raise UserError(f"config argument {name}={getattr(args, name)}: at least 1")
    return args


def ablation(
    name: str,
    variants: Mapping[str, Overrides | Sequence[Overrides]],
    args: SimpleNamespace,
    tasks: Collection[str] = tuple(TASKS),
    measures: Collection[str] = (),
    notes: str = "",
) -> Experiment:
    """Pre-trains every variant with every seed, and fine-tunes each task from each of these.

    Args:
        variants: row -> overrides; the first row is the baseline. A sequence of overrides is a
            sequence of stages: each starts from the one before, and they share the steps.
        measures: metrics of the held-out text, which become columns.
    """
    size = SIZES[args.size]
    steps = args.steps or size.steps
    runs: dict[str, Run] = {}
    rows: dict[str, dict[str, str]] = {}
    for row, changes in variants.items():
        stages = [changes] if isinstance(changes, Mapping) else changes
        start, seeds = "", tuple(range(args.seeds))
        for number, overrides in enumerate(stages, start=1):
            run = row if number == len(stages) else f"{row}.{number}"
            _check_new(run, runs)
            length = {"train.steps": steps // len(stages)}
            runs[run] = Run(
                size.config, {**size.overrides, **length, **overrides}, start, seeds=seeds
            )
            start, seeds = run, (0,)
        rows[row] = dict.fromkeys(measures, row)
        for task in tasks:
            config, _, overrides = TASKS[task]
            _check_new(f"{row}-{task}", runs)
            overrides = {**overrides, **size.subsets.get(task, {}), "train.eval_batches": 4}
            runs[f"{row}-{task}"] = Run(
                f"configs/finetune/{config}.py",
                overrides,
                row,
                seeds=tuple(range(args.task_seeds)),
            )
            rows[row][task] = f"{row}-{task}"
    columns = {measure: Column(measure) for measure in measures}
    columns |= {task: Column(method=TASKS[task].method) for task in tasks}
    return Experiment(name, runs, table=Table(rows, columns, next(iter(rows))), notes=notes)


def _check_new(run: str, runs: Mapping[str, Run]) -> None:
    if run in runs:
        raise UserError(f"two runs would be named {run!r}; give a variant another name")

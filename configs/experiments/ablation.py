"""What the ablations share: variants of a pre-training, the same tasks from each, and one table.

Only what a variant names differs: body, tokenizer, data, tokens seen and the fine-tunings are the
same for all rows, and the attention of the fine-tunings goes in both directions.
"""

from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from research.config import arguments
from research.errors import UserError, nearest
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

Overrides = Mapping[str, Any]
END_OF_TEXT = "<|endoftext|>"  # causal rows end with it, so every variant's tokenizer has it
# BERT's layers with norms before them and rotary positions, which learn more from few tokens.
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
    """config: of configs/finetune; method: the simple system beside it."""

    config: str
    method: str
    overrides: Overrides = {}


class Size(NamedTuple):
    """config: the pre-training; subsets: task -> what of its data is used."""

    config: str
    steps: int
    overrides: Overrides
    subsets: Mapping[str, Overrides]


TASKS = {
    # By the mean of all tokens: not every variant trains the pooler.
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
    # As large as what is shipped with the project: an hour and a half of one core each.
    "cpu": Size("configs/pretrain/bert_cpu.py", 4500, BODY, {}),
    # For accelerators; `config.data.corpus` has to be larger than what is bundled.
    "base": Size("configs/pretrain/bert.py:size=base", 100_000, {}, {}),
}


def given(arg: str, **defaults: Any) -> SimpleNamespace:
    """The arguments of an ablation: size, steps (0: the size's own), seeds (how many pre-trainings
    of each variant), and its own; of one with tasks task_seeds (how many fine-tunings from each of
    these).

    Raises UserError for an unknown size, and for no seeds.
    """
    found = arguments(arg, size="tiny", steps=0, seeds=3, **defaults)
    if found.size not in SIZES:
        raise UserError(
            f"config argument size={found.size!r} is not known{nearest(found.size, SIZES)}"
        )
    for name in {"seeds", "task_seeds"} & vars(found).keys():
        if getattr(found, name) < 1:
            raise UserError(f"config argument {name}={getattr(found, name)}: at least 1")
    return found


def ablation(
    name: str,
    variants: Mapping[str, Overrides | Sequence[Overrides]],
    asked: SimpleNamespace,
    tasks: Collection[str] = tuple(TASKS),
    measures: Collection[str] = (),
    notes: str = "",
) -> Experiment:
    """The pre-trainings of all variants, for each seed, and a fine-tuning of each task from each.

    Args:
        variants: row -> overrides, of which the first is the baseline; several one after the other
            are stages that start from each other and share the steps.
        measures: metrics of the held-out text that are columns too.
    """
    size = SIZES[asked.size]
    steps = asked.steps or size.steps
    runs: dict[str, Run] = {}
    rows: dict[str, dict[str, str]] = {}
    for row, changes in variants.items():
        stages = [changes] if isinstance(changes, Mapping) else changes
        start, seeds = "", tuple(range(asked.seeds))
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
                seeds=tuple(range(asked.task_seeds)),
            )
            rows[row][task] = f"{row}-{task}"
    columns = {measure: Column(measure) for measure in measures}
    columns |= {task: Column(method=TASKS[task].method) for task in tasks}
    return Experiment(name, runs, table=Table(rows, columns, next(iter(rows))), notes=notes)


def _check_new(run: str, runs: Mapping[str, Run]) -> None:
    if run in runs:
        raise UserError(f"two runs would be named {run!r}; give a variant another name")

"""The whole journey on all bundled data: makes the shipped checkpoints and the README's table.

    python launch.py experiment --config=configs/experiments/journey.py

Two pre-trainings of 77 and 102 minutes of one core and 30 fine-tunings, most of 5 to 13 minutes: 8
core hours in all, on a machine shared with other work; on 2 cores two runs at a time. Findings, and
which of them hold beyond these two checkpoints: docs/results.md.
"""

from research.config import arguments
from research.data.bundled import ABOUT_SCORES
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

SEEDS = (0, 1, 2)
# New weights need a higher learning rate than restored ones (grid: docs/results.md).
SCRATCH_RATE = {"bert": 1e-3, "gpt": 2e-3}
TASKS = {
    "sentiment": ("sentiment", "bert", "linear"),
    "named entities": ("named_entities", "bert", "frequent_tag"),
    "questions, extractive": ("question_answering", "bert", "overlapping_sentence"),
    "story": ("story", "gpt", "bigram"),
    "questions, generative": ("document_qa", "gpt", "overlapping_sentence"),
}


def get_experiment(arg: str = "") -> Experiment:
    """Two pre-trainings, then five tasks from them and from scratch, three seeds each.

    Takes no arguments.
    """
    arguments(arg)
    runs = {
        "bert": Run("configs/pretrain/bert_cpu.py"),
        "gpt": Run("configs/pretrain/gpt_cpu.py"),
    }
    for file, start, _ in TASKS.values():
        config = f"configs/finetune/{file}.py"
        runs[file] = Run(config, start=start, seeds=SEEDS)
        rate = {"optimizer.learning_rate": SCRATCH_RATE[start]}
        runs[f"{file}-scratch"] = Run(config, rate, start=start, fresh=True, seeds=SEEDS)
    table = Table(
        rows={
            "from scratch": {task: f"{file}-scratch" for task, (file, _, _) in TASKS.items()},
            "from the checkpoint": {task: file for task, (file, _, _) in TASKS.items()},
        },
        columns={task: Column(method=method) for task, (_, _, method) in TASKS.items()},
        baseline="from scratch",
    )
    return Experiment("journey", runs, ("bert", "gpt"), table, "bert", "gpt", ABOUT_SCORES)

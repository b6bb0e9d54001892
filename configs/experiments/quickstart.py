"""The whole journey on subsets of the bundled data, in minutes on two CPU cores.

    python launch.py experiment --config=configs/experiments/quickstart.py

A quarter of an hour on 2 CPU cores, two runs at a time. Finding (docs/results.md): the shipped
checkpoints are ahead of new weights on all five tasks; for sentiment the interval includes 0.

Trains both tokenizers, pre-trains a very small BERT and GPT to show that they learn, and
fine-tunes the five tasks from the shipped checkpoints (made by configs/experiments/journey.py) and
from scratch, with the same budget on both sides.
"""

from research.config import arguments
from research.data.bundled import ABOUT_SCORES
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

BERT, GPT = "research/pretrained/bert", "research/pretrained/gpt"
# Small enough for a minute; the shipped models are larger.
SMALL = {"model.layers": 2, "model.width": 128, "model.heads": 2, "model.mlp_width": 344}

# Fine-tuning: config, shipped checkpoint, baseline, and the stated subset: shares of the examples,
# chosen by the hash of their ids.
TASKS = {
    "sentiment": (
        "sentiment",
        BERT,
        "linear",
        {"data.train.percent": 10.0, "train.epochs": 3},
    ),
    "named entities": (
        "named_entities",
        BERT,
        "frequent_tag",
        {"data.train.percent": 5.0, "train.epochs": 3, "data.test.percent": 30.0},
    ),
    "questions, extractive": (
        "question_answering",
        BERT,
        "overlapping_sentence",
        {"data.train.percent": 7.0, "train.epochs": 3, "data.test.percent": 50.0},
    ),
    "story": ("story", GPT, "bigram", {"data.train.percent": 25.0, "train.epochs": 2}),
    "questions, generative": (
        "document_qa",
        GPT,
        "overlapping_sentence",
        {"data.train.percent": 6.0, "train.epochs": 3, "data.test.percent": 25.0},
    ),
}


def get_experiment(arg: str = "") -> Experiment:
    """Two pre-trainings, and five tasks twice. Takes no arguments."""
    arguments(arg)
    short = {"train.checkpoint_every": 0}
    runs = {
        "bert": Run(
            "configs/pretrain/bert_cpu.py",
            SMALL | short | {"train.steps": 180, "train.eval_every": 90},
        ),
        "gpt": Run(
            "configs/pretrain/gpt_cpu.py",
            SMALL
            | short
            | {"model.kv_heads": 2, "data.length": 128, "train.steps": 90, "train.eval_every": 45},
        ),
    }
    # All tasks of one side, then the other, which reuses the compiled programs of the first.
    # The longest come first, so that the last ones end together.
    for suffix, fresh in (("", False), ("-scratch", True)):
        for file, start, _, subset in reversed(TASKS.values()):
            overrides = subset | {"train.eval_batches": 4}
            if fresh:  # the best rate for new weights
                overrides |= {"optimizer.learning_rate": 1e-3 if start == BERT else 2e-3}
            config = f"configs/finetune/{file}.py"
            runs[file + suffix] = Run(config, overrides, start=start, fresh=fresh)
    table = Table(
        rows={
            "from scratch": {task: f"{file}-scratch" for task, (file, *_) in TASKS.items()},
            "from the checkpoint": {task: file for task, (file, *_) in TASKS.items()},
        },
        columns={task: Column(method=method) for task, (_, _, method, _) in TASKS.items()},
        baseline="from scratch",
    )
    return Experiment("quickstart", runs, ("bert", "gpt"), table, BERT, GPT, ABOUT_SCORES)

"""The gain from pre-training with 100, 1,000 or all fine-tuning examples.

    python launch.py experiment --config=configs/experiments/data_size.py --workdir=runs/data_size

From the shipped BERT or another checkpoint, and from new weights of its shape, for the same steps.
82 minutes of a CPU core shared with other work; on 2 cores two runs at a time, for about half.
Findings (docs/results.md): entities gain from 1,000 examples on; for reviews with mean pooling
nothing is resolved, at any size.
"""

from configs.experiments.ablation import TASKS
from configs.experiments.journey import SCRATCH_RATE
from research.config import arguments
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

# Training examples. Shares are drawn by hash: the first examples of a set are about one subject.
EXAMPLES = {"sentiment": 11_425, "entities": 23_864}
# Number of examples, about (0: all) -> length of a run: with fewer examples more epochs.
LENGTHS = {
    100: {"train.epochs": 20.0},
    1000: {"train.epochs": 6.0},
    0: {"train.epochs": 2.0},
}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: start, seeds."""
    args = arguments(arg, start="research/pretrained/bert", seeds=3)
    seeds = tuple(range(args.seeds))
    sides = {"from scratch": {"optimizer.learning_rate": SCRATCH_RATE["bert"]}, "pre-trained": {}}
    runs, columns = {}, {}
    rows: dict[str, dict[str, str]] = {side: {} for side in sides}
    for task in ("sentiment", "entities"):
        config, method, overrides = TASKS[task]
        for count, length in LENGTHS.items():
            column = f"{task}, {count or 'all'}"
            columns[column] = Column(method=method)
            share = 100.0 * count / EXAMPLES[task] if count else 100.0
            subset = {**overrides, **length, "data.train.percent": share, "train.eval_batches": 4}
            for side, changes in sides.items():
                run = f"{task}-{count or 'all'}{'-scratch' if changes else ''}"
                rows[side][column] = run
                runs[run] = Run(
                    f"configs/finetune/{config}.py",
                    subset | changes,
                    args.start,
                    fresh=bool(changes),
                    seeds=seeds,
                )
    return Experiment("data-size", runs, table=Table(rows, columns, "from scratch"))

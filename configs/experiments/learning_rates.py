"""A grid of learning rates and batch sizes, for the same number of tokens.

    python launch.py experiment --config=configs/experiments/learning_rates.py:seeds=1

At tiny size 45 minutes of a CPU core; on 2 cores two runs at a time, for about half of that.
Findings with one seed; three, the default, were not run (docs/results.md): the best rate rises with
the batch (1e-3, 2e-3, 4e-3), and the smallest batch is best for the same tokens.
"""

from configs.experiments.ablation import SIZES, ablation_arguments
from research.lab.experiment import Experiment, Run, product
from research.lab.table import Column, Table

RATES = {f"{rate:g}": {"optimizer.learning_rate": rate} for rate in (2e-3, 5e-4, 1e-3, 4e-3, 8e-3)}
BATCHES = {f"{tokens}": {"train.batch_size": tokens} for tokens in (1024, 2048, 8192)}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: size, steps (of 2,048 tokens), seeds, scale (of the batches, such as 64)."""
    args = ablation_arguments(arg, scale=1)
    size = SIZES[args.size]
    batches = {
        str(int(name) * args.scale): {"train.batch_size": int(name) * args.scale}
        for name in BATCHES
    }
    length = {"train.steps": 0, "train.tokens": (args.steps or size.steps) * 2048 * args.scale}
    seeds = tuple(range(args.seeds))
    runs = {
        name: Run(size.config, {**size.overrides, **length, **overrides}, seeds=seeds)
        for name, overrides in product(RATES, batches).items()
    }
    rows = {rate: {f"{size} tokens": f"{rate}-{size}" for size in batches} for rate in RATES}
    columns = {f"{size} tokens": Column("masked_accuracy") for size in batches}
    return Experiment("learning-rates", runs, table=Table(rows, columns, next(iter(rows))))

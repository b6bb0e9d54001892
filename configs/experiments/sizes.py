"""Compares model sizes on the same number of tokens.

    python launch.py experiment --config=configs/experiments/sizes.py --workdir=runs/sizes

At tiny size 92 minutes of a CPU core; on 2 cores two runs at a time, for about half. Finding
(docs/results.md): every size is better than the smallest, in masked accuracy (0.104 to 0.229) and
on entities (0.117 to 0.484).
"""

from configs.experiments.ablation import ablation, ablation_arguments
from research.lab.experiment import Experiment


def _body(layers: int, width: int) -> dict:
    return {
        "model.layers": layers,
        "model.width": width,
        "model.heads": width // 64,
        "model.mlp_width": 4 * width,
    }


LADDERS = {
    "tiny": {
        f"{n}x{width}": _body(n, width) for n, width in ((1, 64), (2, 128), (4, 192), (6, 256))
    },
    "base": {
        name: {"model.preset": f"bert_{name}"}
        for name in ("mini", "small", "medium", "base", "large")
    },
}
LADDERS["cpu"] = LADDERS["tiny"]


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: size, steps, seeds, task_seeds."""
    args = ablation_arguments(arg, task_seeds=1)
    return ablation(
        "sizes", LADDERS[args.size], args, tasks=["entities"], measures=["masked_accuracy"]
    )

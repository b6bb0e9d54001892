"""Ablates position encoding, norm placement and activation, one at a time.

    python launch.py experiment --config=configs/experiments/architecture.py --workdir=runs/bodies

At tiny size 63 minutes of a CPU core; on 2 cores two runs at a time, for about half of that.
Findings (docs/results.md): learned positions and ALiBi are behind rotary positions in masked
accuracy. Norm placement and activation are not resolved at 1.6 M tokens; on entities nothing is.
"""

from configs.experiments.ablation import SIZES, ablation, ablation_arguments
from research import config
from research.lab.experiment import Experiment

VARIANTS = {
    "rope-pre-gelu": {},  # the baseline
    "learned": {"model.positions": "learned"},
    "alibi": {"model.positions": "alibi"},
    "post-norm": {"model.norm_place": "post"},
    "silu": {"model.activation": "silu"},
    "swiglu": {"model.activation": "silu", "model.gated": True},
}
COMMON = {"model.positions": "rope", "model.norm_place": "pre", "model.activation": "gelu"}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: size, steps, seeds, task_seeds."""
    args = ablation_arguments(arg, task_seeds=1)
    variants = {name: COMMON | changes for name, changes in VARIANTS.items()}
    # Three matrices instead of two, with the same number of parameters.
    size = SIZES[args.size]
    hidden = config.load(size.config, size.overrides).model.mlp_width
    variants["swiglu"]["model.mlp_width"] = round(hidden * 2 / 3 / 8) * 8
    return ablation(
        "architecture", variants, args, tasks=["entities"], measures=["masked_accuracy"]
    )

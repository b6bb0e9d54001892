"""Positions, the place of the norms, and the activation, each changed alone.

    python launch.py experiment --config=configs/experiments/architecture.py --workdir=runs/bodies

At tiny size 63 minutes of a CPU core; on 2 cores two runs go at a time, for about half of that.
Found (docs/results.md): learned positions and ALiBi are behind rotary ones in masked accuracy; the
place of the norms and the activation are not resolved at 1.6 M tokens, and on entities nothing is.
"""

from configs.experiments.ablation import SIZES, ablation, given
from research import config
from research.lab.experiment import Experiment

VARIANTS = {
    "rope-pre-gelu": {},  # what the others change
    "learned": {"model.positions": "learned"},
    "alibi": {"model.positions": "alibi"},
    "post-norm": {"model.norm_place": "post"},
    "silu": {"model.activation": "silu"},
    "swiglu": {"model.activation": "silu", "model.gated": True},
}
COMMON = {"model.positions": "rope", "model.norm_place": "pre", "model.activation": "gelu"}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: size, steps, seeds, task_seeds."""
    asked = given(arg, task_seeds=1)
    variants = {name: COMMON | changes for name, changes in VARIANTS.items()}
    # Three matrices instead of two, with as many parameters.
    size = SIZES[asked.size]
    hidden = config.load(size.config, size.overrides).model.mlp_width
    variants["swiglu"]["model.mlp_width"] = round(hidden * 2 / 3 / 8) * 8
    return ablation(
        "architecture", variants, asked, tasks=["entities"], measures=["masked_accuracy"]
    )

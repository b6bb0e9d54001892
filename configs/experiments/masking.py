"""Ablates the masking rate and the unit of masking.

    python launch.py experiment --config=configs/experiments/masking.py:steps=1600

After Wettig et al. 2022 (arXiv:2202.08005) and SpanBERT (Joshi et al. 2019, arXiv:1907.10529). The
held-out text is masked by tokens at 15 % for every variant. At tiny size 54 of the 72 runs (20 %
and 40 % left out by --only) took 120 minutes of a CPU core; on 2 cores two run at a time. Findings
(docs/results.md): the means of masked accuracy and entities rise with the rate, up to 50 %, not
resolved at 3.3 M tokens; spans are behind in masked accuracy and on sentiment.
"""

from configs.experiments.ablation import ablation, ablation_arguments
from research.lab.experiment import Experiment

RATES = (0.15, 0.1, 0.2, 0.3, 0.4, 0.5)
UNITS = ("word", "span")


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: size, steps, seeds, task_seeds."""
    variants = {f"token-{rate:.0%}".rstrip("%"): _masked(rate, "token") for rate in RATES}
    variants |= {f"{unit}-15": _masked(0.15, unit) for unit in UNITS}
    return ablation(
        "masking",
        variants,
        ablation_arguments(arg, task_seeds=1),
        tasks=("sentiment", "entities"),
        measures=["masked_accuracy"],
    )


def _masked(rate: float, unit: str) -> dict:
    return {"objective": {"masked_lm": {"rate": rate, "unit": unit}}}

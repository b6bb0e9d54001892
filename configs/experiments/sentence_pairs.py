"""Compares pair objectives beside masked LM: none, next sentence prediction, sentence order.

    python launch.py experiment --config=configs/experiments/sentence_pairs.py:steps=1600

The questions of RoBERTa (Liu et al. 2019, arXiv:1907.11692, section 4.2) and ALBERT (Lan et al.
2019, arXiv:1909.11942, section 4.6). At tiny size 63 minutes of a CPU core; on 2 cores two runs at
a time, for about half. Findings (docs/results.md): masked accuracy is best on rows of the kind
trained on; on the tasks no difference is resolved at 3.3 M tokens.
"""

from configs.experiments.ablation import ablation, ablation_arguments
from research.lab.experiment import Experiment

PAIRS = {"none": {}, "next-sentence": {"next_sentence": {}}, "order": {"sentence_order": {}}}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: size, steps, seeds, task_seeds."""
    variants = {
        name: {"objective": {"masked_lm": {"rate": 0.3}, **pairs}} for name, pairs in PAIRS.items()
    }
    args = ablation_arguments(arg, task_seeds=1)
    return ablation("sentence-pairs", variants, args, measures=["masked_accuracy"])

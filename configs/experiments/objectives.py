"""Compares objectives: BERT's, masked LM alone, causal LM, one after the other, and both.

    python launch.py experiment --config=configs/experiments/objectives.py --workdir=runs/objectives

The question of BERT's Table 5 (Devlin et al. 2018, arXiv:1810.04805) and of GPT-BERT (Charpentier
and Samuel 2024, arXiv:2410.24159). At tiny size 80 minutes of a CPU core shared with other work,
131 with `:steps=1600`; on 2 cores two runs at a time. Findings (docs/results.md): against masked LM
with next sentence prediction, the mixture is a better start for entities at 1.6 M tokens, causal LM
for entities and sentiment at 3.3 M. Next sentence prediction is not resolved at either.
"""

from configs.experiments.ablation import END_OF_TEXT, ablation, ablation_arguments
from research.lab.experiment import Experiment

MASKED, CAUSAL = {"masked_lm": {"rate": 0.3}}, {"causal_lm": {}}
OBJECTIVES = {
    "masked+next": MASKED | {"next_sentence": {}},
    "masked": MASKED,
    "causal": CAUSAL,
    "causal-then-masked": [CAUSAL, MASKED],
    "mixture": MASKED | CAUSAL | {"rows": {"full": 1, "causal": 1}},
}


def _overrides(objective: dict) -> dict:
    return {"objective": objective, "tokenizer.add_tokens": (END_OF_TEXT,)}


def get_experiment(arg: str = "") -> Experiment:
    """Arguments: size, steps, seeds, task_seeds."""
    args = ablation_arguments(arg, task_seeds=1)
    variants = {
        name: [_overrides(stage) for stage in o] if isinstance(o, list) else _overrides(o)
        for name, o in OBJECTIVES.items()
    }
    return ablation("objectives", variants, args)

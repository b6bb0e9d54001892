"""Which objective to pre-train with: BERT's, masked LM alone, causal LM, one after the other, both.

    python launch.py experiment --config=configs/experiments/objectives.py --workdir=runs/objectives

The question of BERT's Table 5 (Devlin et al. 2018, arXiv:1810.04805) and of GPT-BERT (Charpentier
and Samuel 2024, arXiv:2410.24159). At tiny size 80 minutes of a CPU core, beside other work, and
131 with `:steps=1600`; on 2 cores two runs go at a time. Found (docs/results.md): the mixture is a
better start for entities than masked LM with next sentence prediction at 1.6 M tokens, causal LM
for entities and sentiment at 3.3 M; next sentence prediction is not resolved at either.
"""

from configs.experiments.ablation import END_OF_TEXT, ablation, given
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
    asked = given(arg, task_seeds=1)
    variants = {
        name: [_overrides(o) for o in found] if isinstance(found, list) else _overrides(found)
        for name, found in OBJECTIVES.items()
    }
    return ablation("objectives", variants, asked)

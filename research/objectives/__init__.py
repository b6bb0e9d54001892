"""Pre-training objectives; which of them a run has is its config's `objective`."""

import dataclasses

from research.models.config import ModelConfig
from research.objectives import causal_lm, masked_lm, next_sentence
from research.objectives.causal_lm import CausalLMConfig
from research.objectives.masked_lm import MaskedLMConfig
from research.objectives.next_sentence import NextSentenceConfig
from research.objectives.protocol import Objective


@dataclasses.dataclass(frozen=True)
class ObjectivesConfig:
    """Which losses a pre-training has; None leaves one out."""

    masked_lm: MaskedLMConfig | None = None
    next_sentence: NextSentenceConfig | None = None
    causal_lm: CausalLMConfig | None = None


def for_evaluation(config: ObjectivesConfig) -> ObjectivesConfig:
    """The same objectives as they are measured: masked LM by tokens at 15 %."""
    if config.masked_lm is None:
        return config
    return dataclasses.replace(config, masked_lm=MaskedLMConfig(masked_lm.EVAL_RATE, "token"))


def make_objectives(config: ObjectivesConfig, model: ModelConfig) -> tuple[Objective, ...]:
    """The objectives as functions, in a fixed order."""
    made = []
    if config.masked_lm:
        made.append(masked_lm.make(model))
    if config.next_sentence:
        made.append(next_sentence.make(model))
    if config.causal_lm:
        made.append(causal_lm.make(model, config.causal_lm))
    return tuple(made)

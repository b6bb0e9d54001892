"""Prefix language modelling (Raffel et al. 2020, arXiv:1910.10683, section 3.2.3).

The first part of a slot, of random length, sees itself in both directions; every token behind it is
predicted from all before it.
"""

import dataclasses
from collections.abc import Mapping

from research.evaluation import language
from research.models.config import ModelConfig
from research.objectives import causal_lm
from research.objectives.causal_lm import CausalLMConfig
from research.objectives.protocol import Objective

NAME = "prefix_lm"


@dataclasses.dataclass(frozen=True)
class PrefixLMConfig:
    """What the loss keeps in memory.

    Attributes:
      chunk: positions of a row whose logits are in memory at a time.
    """

    chunk: int = 128


def make(model: ModelConfig, options: PrefixLMConfig) -> Objective:
    """Causal language modelling behind the prefix, on causal language modelling's head."""
    base = causal_lm.make(model, CausalLMConfig(options.chunk))
    return dataclasses.replace(
        base, name=NAME, pattern="prefix", finish=finish, head_name=causal_lm.NAME
    )


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """prefix_loss, prefix_perplexity and prefix_accuracy of a split, of what follows the prefix."""
    return language.finish(
        {
            "prefix_loss": counts["loss"],
            "prefix_correct": counts["correct"],
            "continued": counts["count"],
        }
    )

"""Masked language modelling (Devlin et al. 2018, arXiv:1810.04805)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from research.evaluation import language
from research.models import heads, transformer
from research.models.config import ModelConfig
from research.objectives import vocabulary
from research.objectives.protocol import Objective

NAME = "masked_lm"
EVAL_RATE = 0.15  # always, so that runs with other rates stay comparable
TOP = 5


@dataclasses.dataclass(frozen=True)
class MaskedLMConfig:
    """What is hidden and predicted.

    Attributes:
      rate: share of a slot's tokens that are predicted.
      unit: what is masked at a time.
    """

    rate: float = 0.15
    unit: Literal["token", "word", "span"] = "token"


def capacity(length: int, rate: float) -> int:
    """P: predicted positions of a row, with room for the rounding of a few short slots."""
    return math.ceil(length * rate) + 4


def make(model: ModelConfig) -> Objective:
    """Only the P predicted positions of a row meet the vocabulary."""
    head = heads.MaskedLM(model)

    def features(params, config, hidden, positions):
        x = transformer.gather(hidden, positions)
        return head.apply({"params": params["heads"][NAME]}, x)

    def loss(params, config, hidden, batch, row_keys):
        x, bias = features(params, config, hidden, batch["predict_positions"])
        table = heads.output_table(params, config, NAME)
        total, correct = vocabulary.sums(
            x, table, bias, batch["predict_targets"], batch["predict_weights"], config.vocab_size
        )
        return total, {"loss": total, "correct": correct, "count": weight(batch)}

    def weight(batch):
        return jnp.sum(batch["predict_weights"])

    def outputs(params, config, hidden, batch):
        x, bias = features(params, config, hidden, batch["predict_positions"])
        table = heads.output_table(params, config, NAME)
        logits = heads.vocabulary_logits(x, table, bias, config.vocab_size)
        probability, token = jax.lax.top_k(jax.nn.softmax(logits), TOP)
        return {"predict": {"probability": probability, "token": token}}

    return Objective(NAME, "full", head, weight, loss, finish, outputs)


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """masked_accuracy, masked_loss and masked_perplexity of a split."""
    return language.finish(
        {
            "masked_loss": counts["loss"],
            "masked_correct": counts["correct"],
            "masked": counts["count"],
        }
    )

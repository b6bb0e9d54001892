"""Causal language modelling (Radford et al. 2019): every token from those before it."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from research.evaluation import language
from research.models import heads
from research.models.config import ModelConfig
from research.objectives import vocabulary
from research.objectives.protocol import Objective

NAME = "causal_lm"
TOP = 5


@dataclasses.dataclass(frozen=True)
class CausalLMConfig:
    """What the loss keeps in memory.

    Attributes:
      chunk: positions of a row whose logits are in memory at a time.
    """

    chunk: int = 128


def make(model: ModelConfig, options: CausalLMConfig) -> Objective:
    """The batch brings the targets, so that a slot may begin in the middle of a document."""
    head = None if model.tied_embeddings else heads.OutputTable(model)

    def loss(params, config, hidden, batch, row_keys):
        table = heads.output_table(params, config, NAME)
        total, correct = vocabulary.chunked_sums(
            hidden,
            table,
            None,
            batch["targets"],
            batch["target_weights"],
            config.vocab_size,
            options.chunk,
        )
        counts = {"loss": total, "correct": correct, "count": weight(batch)}
        if "target_bytes" in batch:
            counts["bytes"] = jnp.sum(batch["target_bytes"] * batch["target_weights"])
        return total, counts

    def weight(batch):
        return jnp.sum(batch["target_weights"])

    def outputs(params, config, hidden, batch):
        last = jnp.take_along_axis(hidden, batch["last"][:, :, None], axis=1)
        table = heads.output_table(params, config, NAME)
        logits = heads.vocabulary_logits(last, table, None, config.vocab_size)
        probability, token = jax.lax.top_k(jax.nn.softmax(logits), TOP)
        return {"slot": {"probability": probability, "token": token}}

    return Objective(NAME, "causal", head, weight, loss, finish, outputs)


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """loss, perplexity, next_token_accuracy and, where bytes were counted, bits_per_byte."""
    bytes_ = {"bytes": counts["bytes"]} if "bytes" in counts else {}
    found = language.finish({"loss": counts["loss"], "tokens": counts["count"]} | bytes_)
    return found | {"next_token_accuracy": counts["correct"] / counts["count"]}

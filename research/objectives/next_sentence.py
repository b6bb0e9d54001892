"""Next sentence prediction (Devlin et al. 2018). Class 0: B follows A; 1: B is random."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from research.errors import UserError
from research.evaluation import language
from research.models import heads, transformer
from research.models.config import ModelConfig
from research.objectives.protocol import Objective

NAME = "next_sentence"


@dataclasses.dataclass(frozen=True)
class NextSentenceConfig:
    """`short`: the share of pairs that fill only a random part of the room they have."""

    short: float = 0.1


def make(model: ModelConfig) -> Objective:
    """A classifier on the pooled first token of each pair.

    Raises UserError where the backbone has no pooler.
    """
    if not model.pooler:
        raise UserError(
            "config.objective.next_sentence reads the pooler, which the backbone lacks; set "
            "config.model.pooler=true, or config.objective.next_sentence=none"
        )
    head = heads.Classifier(model, classes=2)

    def logits(params, config, hidden, batch):
        pooled = transformer.pool(params["backbone"], config, hidden, batch["first"])
        return head.apply({"params": params["heads"][NAME]}, pooled)

    def loss(params, config, hidden, batch, row_keys):
        scores = logits(params, config, hidden, batch)
        label, weights = batch["random_next"], batch["slot_weights"]
        logp = jax.nn.log_softmax(scores)
        losses = -jnp.take_along_axis(logp, label[..., None], -1)[..., 0]
        correct = (jnp.argmax(scores, -1) == label).astype(jnp.float32)
        total = jnp.sum(losses * weights)
        counts = {"loss": total, "correct": jnp.sum(correct * weights), "count": weight(batch)}
        return total, counts

    def weight(batch):
        return jnp.sum(batch["slot_weights"])

    def outputs(params, config, hidden, batch):
        probability = jax.nn.softmax(logits(params, config, hidden, batch))
        return {"slot": {"probability": probability}}

    return Objective(NAME, "full", head, weight, loss, finish, outputs)


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """next_sentence_accuracy and next_sentence_loss of a split."""
    return language.finish(
        {
            "next_sentence_loss": counts["loss"],
            "next_sentence_correct": counts["correct"],
            "pairs": counts["count"],
        }
    )

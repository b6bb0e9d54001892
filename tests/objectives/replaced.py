"""A toy objective, complete in this file: detects tokens that random ones have replaced."""

import dataclasses

import jax
import numpy as np

from research.models import heads
from research.objectives.objective import Objective, sums


@dataclasses.dataclass(frozen=True)
class ReplacedConfig:
    """What is replaced.

    Attributes:
      rate: share of the tokens that random ones replace.
    """

    rate: float = 0.15


class Replaced(Objective):
    name, measures, Options = "replaced", ("replaced_loss", "replaced_accuracy"), ReplacedConfig
    arrays, weights = {"targets": True}, "target_weights"
    meaning, asks, gives = "which tokens are not the text's", ("text",), "which tokens are wrong"

    def edit(self, segment, tokenizer, draw):
        rng, n = draw("replaced"), len(segment)
        hit = (rng.random(n) < self.options.rate) & ~tokenizer.is_special[segment.tokens]
        tokens = np.where(hit, rng.choice(tokenizer.ordinary, n), segment.tokens)
        return dataclasses.replace(segment, tokens=tokens, targets=hit, target_weights=np.ones(n))

    def head(self, model):
        return heads.Classifier(model, classes=1)

    def scores(self, params, model, hidden):
        return self.head_of(params, model, hidden)[..., 0]

    def loss(self, params, model, hidden, batch, row_keys):
        scores, gold = self.scores(params, model, hidden), batch["targets"]
        losses = jax.nn.softplus(scores) - gold * scores
        return sums(losses, (scores > 0) == (gold > 0), batch["target_weights"])

    def outputs(self, params, model, hidden, batch):
        return {"token": {"probability": jax.nn.sigmoid(self.scores(params, model, hidden))}}

    def read(self, tokenizer, outputs):
        return {"wrong": outputs["probability"].round(3).tolist()}

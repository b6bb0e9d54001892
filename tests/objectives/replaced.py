"""A toy objective: which tokens of a text random ones have replaced. All that it needs is here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from research.models import heads
from research.objectives.objective import Objective


@dataclasses.dataclass(frozen=True)
class ReplacedConfig:
    """What is replaced.

    Attributes:
      rate: share of the tokens that random ones replace.
    """

    rate: float = 0.15


class Replaced(Objective):
    name, measures, Options = "replaced", ("replaced_loss", "replaced_accuracy"), ReplacedConfig
    meaning, asks, gives = "which tokens are not the text's", ("text",), "which tokens are wrong"

    def extend_layout(self, layout):
        return dataclasses.replace(layout, targets=True)

    def edit(self, slot, tokenizer, draw):
        rng, n = draw("replaced"), len(slot)
        hit = (rng.random(n) < self.options.rate) & ~tokenizer.is_special[slot.tokens]
        tokens = np.where(hit, rng.choice(tokenizer.ordinary, n), slot.tokens)
        return dataclasses.replace(slot, tokens=tokens, targets=hit, target_weights=np.ones(n))

    def head(self, model):
        return heads.Classifier(model, classes=1)

    def weight(self, batch):
        return jnp.sum(batch["target_weights"])

    def scores(self, params, model, hidden):
        return self.head(model).apply({"params": params["heads"][self.name]}, hidden)[..., 0]

    def loss(self, params, model, hidden, batch, row_keys):
        scores, gold = self.scores(params, model, hidden), batch["targets"]
        total = jnp.sum((jax.nn.softplus(scores) - gold * scores) * batch["target_weights"])
        right = jnp.sum(((scores > 0) == (gold > 0)) * batch["target_weights"])
        return total, {"loss": total, "correct": right, "count": self.weight(batch)}

    def outputs(self, params, model, hidden, batch):
        return {"token": {"probability": jax.nn.sigmoid(self.scores(params, model, hidden))}}

    def read(self, outputs):
        return {"wrong": outputs["probability"].round(3).tolist()}

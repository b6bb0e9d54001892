"""A toy task: as many of 5 stars for a text as its score passes thresholds. All of it is here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from research.tasks.pooled import Pooled, text_of, text_slot
from research.tasks.regression import RegressionConfig


@dataclasses.dataclass(frozen=True)
class StarsConfig(RegressionConfig):
    __doc__ = RegressionConfig.__doc__


class Stars(Pooled):
    name, metric, classes, Options = "stars", "distance", 4, StarsConfig
    measures, higher_is_better, head_name = ("loss", "threshold_accuracy"), False, name

    @classmethod
    def score_names(cls, options):
        return ("distance",)

    def extend_layout(self, layout):
        return dataclasses.replace(layout, labels=("stars",))

    def loss(self, params, model, hidden, batch, row_keys):
        scores, weights = self.scores(params, model, hidden, batch, row_keys), batch["slot_weights"]
        passed = (batch["stars"][..., None] > jnp.arange(1, 5)).astype(jnp.float32)
        total = jnp.sum((jax.nn.softplus(scores) - passed * scores).mean(-1) * weights)
        right = jnp.sum(((scores > 0) == (passed > 0)).mean(-1) * weights)
        return total, {"loss": total, "correct": right, "count": self.weight(batch)}

    def outputs(self, params, model, hidden, batch):
        return {"slot": {"score": self.scores(params, model, hidden, batch)}}

    def slots(self, example, number, labelled):
        slot = text_slot(self.tokenizer, example, self.layout.length)
        labels = {"stars": int(example["label"]) if labelled else 0}
        return [dataclasses.replace(slot, example=number, labels=labels)]

    def predict(self, example, slots, outputs):
        return {"stars": 1 + int(np.sum(outputs[0]["score"] > 0))}

    def counts(self, example, prediction):
        return {"off": abs(float(example["label"]) - prediction["stars"]), "examples": 1.0}

    def finish(self, counts):
        return {"distance": counts["off"] / counts["examples"]}

    def show(self, example, prediction):
        return f"{text_of(example)} → {'*' * prediction['stars']}"

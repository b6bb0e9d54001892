"""A toy task, complete in this file: 1 to 5 stars, one more for each threshold passed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from research.tasks.pooled import Pooled, text_of
from research.tasks.regression import RegressionConfig


@dataclasses.dataclass(frozen=True)
class StarsConfig(RegressionConfig):
    __doc__ = RegressionConfig.__doc__


class Stars(Pooled):
    name, metric, classes, Options = "stars", "distance", 4, StarsConfig
    scores, arrays = (metric,), {"labels": (name,)}
    measures, higher_is_better, head_name = ("loss", "threshold_accuracy"), False, name

    def loss(self, params, model, hidden, batch, row_keys):
        scores, weights = (
            self.logits(params, model, hidden, batch, row_keys),
            batch["segment_weights"],
        )
        passed = (batch["stars"][..., None] > jnp.arange(1, 5)).astype(jnp.float32)
        total = jnp.sum((jax.nn.softplus(scores) - passed * scores).mean(-1) * weights)
        right = jnp.sum(((scores > 0) == (passed > 0)).mean(-1) * weights)
        return total, {"loss": total, "correct": right, "count": self.weight(batch)}

    def outputs(self, params, model, hidden, batch):
        return {"segment": {"score": self.logits(params, model, hidden, batch)}}

    def gold(self, example, labelled):
        return {"labels": {"stars": int(example["label"]) if labelled else 0}}

    def predict(self, example, segments, outputs):
        return {"stars": 1 + int(np.sum(outputs[0]["score"] > 0))}

    def counts(self, example, prediction):
        return {"off": abs(float(example["label"]) - prediction["stars"]), "examples": 1.0}

    def compute_metrics(self, counts):
        return {"distance": counts["off"] / counts["examples"]}

    def show(self, example, prediction):
        return f"{text_of(example)} → {'*' * prediction['stars']}"

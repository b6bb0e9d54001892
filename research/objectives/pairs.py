"""What next sentence and sentence order prediction share: two classes of sentence pairs."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from research.errors import UserError
from research.models import heads, transformer
from research.models.config import ModelConfig
from research.objectives.protocol import Objective


def make(
    name: str,
    label: str,
    model: ModelConfig,
    finish: Callable[[Mapping[str, float]], dict[str, float]],
) -> Objective:
    """A classifier on the first token of each pair, through the backbone's pooler or, where heads
    have one, through the head's own transform.

    label: the batch's array [R, S] of classes; below 0 for a slot that is not a pair.

    Raises UserError where there is neither.
    """
    if not (model.pooler or model.head_transform):
        raise UserError(
            f"config.objective.{name} reads the pooler, which the backbone lacks; set "
            f"config.model.pooler=true, or config.objective.{name}=none"
        )
    head = heads.Classifier(model, classes=2)

    def logits(params, config, hidden, batch):
        if config.pooler:
            first = transformer.pool(params["backbone"], config, hidden, batch["first"])
        else:
            first = transformer.gather(hidden, batch["first"])
        return head.apply({"params": params["heads"][name]}, first)

    def loss(params, config, hidden, batch, row_keys):
        scores = logits(params, config, hidden, batch)
        classes, weights = jnp.maximum(batch[label], 0), paired(batch)
        logp = jax.nn.log_softmax(scores)
        losses = -jnp.take_along_axis(logp, classes[..., None], -1)[..., 0]
        correct = (jnp.argmax(scores, -1) == classes).astype(jnp.float32)
        total = jnp.sum(losses * weights)
        counts = {"loss": total, "correct": jnp.sum(correct * weights), "count": weight(batch)}
        return total, counts

    def paired(batch):
        return batch["slot_weights"] * (batch[label] >= 0)

    def weight(batch):
        return jnp.sum(paired(batch))

    def outputs(params, config, hidden, batch):
        probability = jax.nn.softmax(logits(params, config, hidden, batch))
        return {"slot": {"probability": probability}}

    def finished(counts):
        return finish(counts) if counts["count"] else {}  # a source, or a batch, without a pair

    return Objective(name, "full", head, weight, loss, finished, outputs)

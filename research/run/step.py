"""The train step and the eval step: pure functions of state and batch.

Axes: R rows of the global batch, K micro-batches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.models import transformer
from research.models.config import ModelConfig
from research.objectives.objective import Batch, Loss, Sums, by_pattern
from research.run.guard import Guard, verdict


class State(NamedTuple):
    """The state that a step updates. `step` counts finished steps; a guard measures spikes against
    `losses`."""

    step: jax.Array
    params: Any
    opt_state: Any
    losses: Any = ()


def row_keys(seed: int, step: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns a dropout key per row, f(seed, step, row): the same on any mesh and micro-batch."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def rows_of(objective: Loss, batch: Batch) -> Batch:
    """Returns the rows that an objective learns from."""
    first, end, cycle = objective.rows
    if cycle == 1:
        return batch
    return {
        name: x.reshape(-1, cycle, *x.shape[1:])[:, first:end].reshape(-1, *x.shape[1:])
        for name, x in batch.items()
    }


def loss_and_counts(
    params: Any,
    model: ModelConfig,
    objectives: Sequence[Loss],
    batch: Batch,
    weights: Sums,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, Sums]:
    """Returns the sum over objectives of share of the rows x loss sum of this batch / weight of the
    whole batch, and counts named "objective/count".
    """
    total, counts = jnp.zeros((), jnp.float32), {}
    for pattern, group in by_pattern(objectives).items():  # one forward pass for each
        part = rows_of(group[0], batch)
        part_keys = None if keys is None else rows_of(group[0], {"keys": keys})["keys"]
        hidden = transformer.apply(params["backbone"], model, part, pattern, part_keys)
        for objective in group:
            loss, own = objective.loss(params, model, hidden, part, part_keys)
            total += objective.share * loss / weights[objective.name]
            counts |= {f"{objective.name}/{name}": n for name, n in own.items()}
    return total, counts


def total_weights(objectives: Sequence[Loss], batch: Batch) -> Sums:
    """Returns each loss's weight in the whole batch; 1 instead of 0, so that 0 / 0 becomes 0."""
    weights = {o.name: o.weight(rows_of(o, batch)) for o in objectives}
    return {name: jnp.where(w > 0, w, 1.0) for name, w in weights.items()}


def _micro_batches(batch: Batch, k: int, cycle: int) -> Batch:
    """Reshapes [R, ...] to [K, R / K, ...]: rows k, k + K, …, so that a micro-batch spans all
    devices; `cycle` rows at a time, so that it has rows of each objective of a mixture.
    """

    def split(x: jax.Array) -> jax.Array:
        parts = x.reshape(x.shape[0] // (k * cycle), k, cycle, *x.shape[1:])
        return jnp.swapaxes(parts, 0, 1).reshape(k, x.shape[0] // k, *x.shape[1:])

    return {name: split(x) for name, x in batch.items()}


def gradients(
    params: Any,
    model: ModelConfig,
    objectives: Sequence[Loss],
    batch: Batch,
    keys: jax.Array | None,
    accumulation: int,
    frozen: Any = None,
) -> tuple[Any, Sums]:
    """Gradient of the whole batch's loss and its counts, in `accumulation` micro-batches.

    The weights are those of the whole batch, so the result does not depend on how it is cut.

    Args:
        frozen: a tree of bools in the structure of params: what gets a gradient of 0, for which
            nothing is computed.
    """
    weights = total_weights(objectives, batch)

    def loss(params: Any, part: Batch, part_keys: jax.Array | None) -> tuple[jax.Array, Sums]:
        if frozen is not None:
            params = jax.tree.map(
                lambda p, held: jax.lax.stop_gradient(p) if held else p, params, frozen
            )
        return loss_and_counts(params, model, objectives, part, weights, part_keys)

    def one(part: Batch, part_keys: jax.Array | None) -> tuple[Any, Sums]:
        return jax.grad(loss, has_aux=True)(params, part, part_keys)

    if accumulation == 1:
        return one(batch, keys)
    cycle = objectives[0].rows[2]
    parts = _micro_batches(batch, accumulation, cycle)
    part_keys = None
    if keys is not None:
        part_keys = _micro_batches({"keys": keys}, accumulation, cycle)["keys"]
    first = jax.tree.map(lambda x: x[0], (parts, part_keys))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, *first))

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, carry, one(*part)), None

    return jax.lax.scan(add, zero, (parts, part_keys))[0]


def make_train_step(
    model: ModelConfig,
    objectives: Sequence[Loss],
    optimizer: optax.GradientTransformation,
    seed: int,
    accumulation: int = 1,
    uses_dropout: bool = True,
    frozen: Any = None,
    guard: Guard | None = None,
) -> Callable[[State, Batch], tuple[State, Sums]]:
    """Returns (state, batch) -> (state, metrics): "loss" (the sum of mean losses, each times its
    share of the rows), "gradient_norm", counts; with a guard, "verdict".

    frozen: as in `gradients`.
    """

    def train_step(state: State, batch: Batch) -> tuple[State, Sums]:
        keys = row_keys(seed, state.step, batch["rows"]) if uses_dropout else None
        grads, counts = gradients(
            state.params, model, objectives, batch, keys, accumulation, frozen
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        losses = state.losses
        weights = total_weights(objectives, batch)
        metrics = counts | {
            "loss": sum(o.share * counts[f"{o.name}/loss"] / weights[o.name] for o in objectives),
            "gradient_norm": optax.global_norm(grads),
        }
        if guard is not None:
            loss = metrics["loss"]
            bad = guard.is_bad(losses, loss, metrics["gradient_norm"])
            old, new = (state.params, state.opt_state), (params, opt_state)
            params, opt_state = guard.kept(bad, old, new)
            losses = guard.after(losses, loss, bad)
            metrics["verdict"] = verdict(bad, params)
        return State(state.step + 1, params, opt_state, losses), metrics

    return train_step


def make_eval_step(model: ModelConfig, objectives: Sequence[Loss]) -> Callable[[Any, Batch], Sums]:
    """Returns (params, batch) -> counts named "objective/count", without dropout."""

    def eval_step(params: Any, batch: Batch) -> Sums:
        weights = {o.name: jnp.ones(()) for o in objectives}
        return loss_and_counts(params, model, objectives, batch, weights)[1]

    return eval_step


def make_measure_step(
    model: ModelConfig, objective: Loss
) -> Callable[[Any, Batch], tuple[Sums, dict[str, Sums]]]:
    """Returns (params, batch) -> (counts of `make_eval_step`, outputs of `make_predict_step`), from
    one forward pass."""

    def measure_step(params: Any, batch: Batch) -> tuple[Sums, dict[str, Sums]]:
        hidden = transformer.apply(params["backbone"], model, batch, objective.pattern)
        _, counts = objective.loss(params, model, hidden, batch, None)
        named = {f"{objective.name}/{name}": n for name, n in counts.items()}
        return named, objective.outputs(params, model, hidden, batch)

    return measure_step


def make_predict_step(
    model: ModelConfig, objective: Loss
) -> Callable[[Any, Batch], dict[str, Sums]]:
    """Returns (params, batch) -> {"segment" | "token" | "predict": {name: array}}, of all rows."""

    def predict_step(params: Any, batch: Batch) -> dict[str, Sums]:
        hidden = transformer.apply(params["backbone"], model, batch, objective.pattern)
        return objective.outputs(params, model, hidden, batch)

    return predict_step

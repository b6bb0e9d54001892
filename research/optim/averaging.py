"""An exponential moving average of the params, kept in the optimizer's state.

A checkpoint's item "params" holds the average, so that predict, export and init_from use the
weights that were evaluated; its optimizer state holds the trained params. `exchanged` swaps the
two, before a save and after a restore.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Average(NamedTuple):
    """`params` holds the average (in a checkpoint, the trained params: see `exchanged`)."""

    count: jax.Array
    params: Any


def average(decay: float) -> optax.GradientTransformation:
    """Passes updates through and averages the updated params.

    The decay of step n is min(decay, (1 + n) / (10 + n)), so that the average soon forgets the
    initial weights of a head.
    """

    def init(params: Any) -> Average:
        return Average(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: Average, params: Any) -> tuple[Any, Average]:
        keep = jnp.minimum(decay, (1.0 + state.count) / (10.0 + state.count))
        new = jax.tree.map(
            lambda mean, p, u: keep * mean + (1.0 - keep) * (p + u), state.params, params, updates
        )
        return updates, Average(state.count + 1, new)

    return optax.GradientTransformation(init, update)


def _is_average(x: Any) -> bool:
    return isinstance(x, Average)


def exchanged(params: Any, opt_state: Any) -> tuple[Any, Any]:
    """Swaps the trained params with their average in `opt_state`; twice gives back the originals.

    Frozen params have no average and stay; without an average both are returned unchanged.
    """
    averages = [x for x in jax.tree.leaves(opt_state, is_leaf=_is_average) if _is_average(x)]
    if not averages:
        return params, opt_state

    def masked(x: Any) -> bool:
        return isinstance(x, optax.MaskedNode)

    means = averages[0].params
    new = jax.tree.map(lambda m, p: p if masked(m) else m, means, params, is_leaf=masked)
    old = jax.tree.map(lambda m, p: m if masked(m) else p, means, params, is_leaf=masked)
    state = jax.tree.map(
        lambda x: x._replace(params=old) if _is_average(x) else x, opt_state, is_leaf=_is_average
    )
    return new, state

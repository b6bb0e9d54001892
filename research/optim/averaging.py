"""An exponential moving average of the params, kept in the optimizer's state.

A checkpoint's item "params" holds the average, so that whoever loads it (predict, export,
init_from) has what was evaluated; the optimizer's state holds the params that learn on.
`exchanged` swaps the two, before a save and after a restore.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Average(NamedTuple):
    """`params` holds the average (between an `exchanged` save and restore, the params)."""

    count: jax.Array
    params: Any


def average(decay: float) -> optax.GradientTransformation:
    """Leaves the updates as they are and averages what they lead to.

    The first steps count more, min(decay, (1 + n) / (10 + n)), or the new weights of a head would
    stay in the average for long.
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
    """(params, opt_state) with the averaged params in the place of those that learn, and back.

    Frozen params have no average and stay; without an average both are returned as they are.
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

"""Optimizers and schedules from the config.

Blocks are stacked in one leaf for all layers, so whatever is a statistic of one tensor (LAMB's
trust ratio) is taken for each layer.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.errors import UserError
from research.models.params import by_path, stack_of
from research.optim import averaging, groups, matrices


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), LAMB (You et al. 2020, arXiv:1904.00962), Adafactor or Muon
    (`matrices`).

    Attributes:
      name: the update rule; "muon" is for the kernels of the blocks, with AdamW for the rest.
      learning_rate: the peak.
      schedule: "wsd" holds the rate and decays it at the end; "linear" and "cosine" decay from the
        end of the warm-up.
      warmup: share of the run's steps in which the rate rises to the peak.
      decay: share of the run's steps in which "wsd" decays.
      end_share: share of the peak that is left at the end.
      weight_decay: of all but norms and biases.
      b1: decay of the mean of gradients.
      b2: decay of the mean of their squares.
      epsilon: added to the root of that mean.
      clip: bound of the global norm of the gradient; 0: none.
      rates: pattern -> multiplier of the learning rate (`groups`).
      freeze: patterns of what does not learn.
      layer_decay: multiplier of the learning rate from each layer to the one below it.
      average: decay of an exponential moving average of the params, which is what is evaluated and
        what a checkpoint gives; 0: none.
    """

    name: Literal["adamw", "lamb", "adafactor", "muon"] = "adamw"
    learning_rate: float = 1e-4
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    warmup: float = 0.1
    decay: float = 0.2
    end_share: float = 0.0
    weight_decay: float = 0.01
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-6
    clip: float = 1.0
    rates: Mapping[str, float] = ()
    freeze: tuple[str, ...] = ()
    layer_decay: float = 1.0
    average: float = 0.0


def check(config: OptimizerConfig) -> None:
    """Raises UserError for rates and shares out of range."""
    for key in ("learning_rate", "epsilon"):
        if not 0.0 < getattr(config, key) < math.inf:
            raise UserError(f"config.optimizer.{key}={getattr(config, key)} must be above 0")
    for key in ("weight_decay", "clip"):
        if not 0.0 <= getattr(config, key) < math.inf:
            raise UserError(f"config.optimizer.{key}={getattr(config, key)} must be at least 0")
    for key in ("warmup", "decay", "end_share"):
        if not 0.0 <= getattr(config, key) <= 1.0:
            raise UserError(f"config.optimizer.{key}={getattr(config, key)} must be in [0, 1]")
    groups.check(config.rates, config.freeze, config.layer_decay)
    for key in ("b1", "b2", "average"):
        if not 0.0 <= getattr(config, key) < 1.0:
            raise UserError(f"config.optimizer.{key}={getattr(config, key)} must be in [0, 1)")


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by step (counted from 0) of a run of `steps` steps."""
    peak, end = config.learning_rate, config.learning_rate * config.end_share
    warm = round(config.warmup * steps)
    rest = max(1, steps - warm)
    if config.schedule == "linear":
        after = optax.linear_schedule(peak, end, rest)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.end_share)
    elif config.schedule == "wsd":
        down = min(rest, max(1, round(config.decay * steps)))
        after = optax.join_schedules(
            [optax.constant_schedule(peak), optax.linear_schedule(peak, end, down)], [rest - down]
        )
    else:
        after = optax.constant_schedule(peak)
    if not warm:
        return after
    # The first step already has a rate above zero.
    rise = optax.linear_schedule(peak / warm, peak, max(1, warm - 1))
    return optax.join_schedules([rise, after], [warm])


def decays(path: str) -> bool:
    """Whether weight decay applies: by name, since stacking hides a parameter's rank."""
    name = path.rsplit("/", 1)[-1]
    return name not in ("bias", "scale")


def _decay_mask(params: Any) -> Any:
    flat = {path: decays(path) for path in by_path(params)}
    return jax.tree.unflatten(jax.tree.structure(params), list(flat.values()))


def _scale_by_trust_ratio(epsilon: float = 0.0) -> optax.GradientTransformation:
    """LAMB's ||w|| / ||u|| for each tensor, and for each layer of a stacked one."""

    def ratio(update: jax.Array, param: jax.Array, stacked: bool) -> jax.Array:
        axes = tuple(range(1 if stacked else 0, param.ndim))
        norm = jnp.sqrt(jnp.sum(jnp.square(param), axes, keepdims=True))
        size = jnp.sqrt(jnp.sum(jnp.square(update), axes, keepdims=True))
        valid = (norm > 0) & (size > 0)
        return jnp.where(valid, norm / jnp.where(valid, size + epsilon, 1.0), 1.0)

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        paths = list(by_path(params))
        leaves = [
            u * ratio(u, p, bool(stack_of(path)))
            for path, u, p in zip(
                paths, jax.tree.leaves(updates), jax.tree.leaves(params), strict=True
            )
        ]
        return jax.tree.unflatten(jax.tree.structure(updates), leaves), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make(config: OptimizerConfig, steps: int, shapes: Any) -> optax.GradientTransformation:
    """The update rule of a run of `steps` steps for params of these shapes.

    Raises UserError for a pattern that fits none of them.
    """
    rates = groups.multipliers(shapes, config.rates, config.freeze, config.layer_decay)
    chain = [optax.clip_by_global_norm(config.clip)] if config.clip else []
    chain += _rule(config, steps)
    if any((values != 1.0).any() for values in rates.values()):
        chain.append(_scale_by(rates))
    if config.average:
        chain.append(averaging.average(config.average))
    labels = groups.labels(shapes, rates)
    rule = optax.chain(*chain)
    if groups.FROZEN not in jax.tree.leaves(labels):
        return rule
    return optax.partition({groups.TRAINED: rule, groups.FROZEN: optax.set_to_zero()}, labels)


class Rate(NamedTuple):
    """The peak of the learning rate lies in the state, not in the program: runs that differ in it
    alone share one compiled step."""

    count: jax.Array
    peak: jax.Array


def _scale_by_rate(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Goes against the direction, by the schedule's rate of the step."""
    shape = schedule(dataclasses.replace(config, learning_rate=1.0), steps)

    def init(params: Any) -> Rate:
        return Rate(jnp.zeros((), jnp.int32), jnp.float32(config.learning_rate))

    def update(updates: Any, state: Rate, params: Any = None) -> tuple[Any, Rate]:
        rate = state.peak * shape(state.count)
        scaled = jax.tree.map(lambda u: -rate * u, updates)
        return scaled, Rate(state.count + 1, state.peak)

    return optax.GradientTransformation(init, update)


def _rule(config: OptimizerConfig, steps: int) -> list[optax.GradientTransformation]:
    moments = (config.b1, config.b2, config.epsilon)
    if config.name == "muon":
        chain = [matrices.muon(*moments)]
    elif config.name == "adafactor":
        chain = [matrices.adafactor()]
    else:
        chain = [optax.scale_by_adam(*moments)]
    if config.weight_decay:
        chain.append(optax.add_decayed_weights(config.weight_decay, _decay_mask))
    if config.name == "lamb":
        chain.append(_scale_by_trust_ratio())
    return [*chain, _scale_by_rate(config, steps)]


def _scale_by(rates: Mapping[str, np.ndarray]) -> optax.GradientTransformation:
    """Multiplies the updates, those of a stacked parameter layer by layer."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        leaves = [
            u * rates[path].reshape(rates[path].shape + (1,) * (u.ndim - rates[path].ndim))
            for path, u in by_path(updates).items()
        ]
        return jax.tree.unflatten(jax.tree.structure(updates), leaves), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def run_steps(
    steps: int, epochs: float, batches_per_epoch: int, items: int = 0, batch_size: int = 1
) -> int:
    """Steps of a run given in steps, in epochs, or in what `batch_size` counts."""
    return steps or max(1, math.ceil(epochs * batches_per_epoch or items / batch_size))

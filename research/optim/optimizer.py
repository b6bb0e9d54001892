"""Optimizers and schedules from the config.

A stacked leaf holds all layers of the blocks, so statistics of one tensor (LAMB's trust ratio) are
taken per layer.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.models.params import map_by_path, stack_of
from research.optim import averaging, groups, matrices
from research.values import Amount, Fraction, Pattern, Positive, Range, Share


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
      weight_decay: weight decay of all params except norms and biases.
      b1: decay of the running mean of gradients.
      b2: decay of the running mean of squared gradients.
      epsilon: added to the root of that mean.
      clip: bound of the gradient's global norm; 0: none.
      rates: pattern -> multiplier of the learning rate (`groups`).
      freeze: patterns of frozen params.
      layer_decay: multiplier of the learning rate from each layer to the one below it.
      average: decay of an exponential moving average of the params, which evaluations use and
        checkpoints hold; 0: none.
    """

    name: Literal["adamw", "lamb", "adafactor", "muon"] = "adamw"
    learning_rate: Positive = 1e-4
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    warmup: Share = 0.1
    decay: Share = 0.2
    end_share: Share = 0.0
    weight_decay: Amount = 0.01
    b1: Fraction = 0.9
    b2: Fraction = 0.999
    epsilon: Positive = 1e-6
    clip: Amount = 1.0
    rates: Mapping[Pattern, Amount] = ()
    freeze: tuple[Pattern, ...] = ()
    layer_decay: Annotated[float, Range(0, 1, "(]")] = 1.0
    average: Fraction = 0.0


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by step (from 0) for a run of `steps` steps."""
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
    """Whether weight decay applies, by name, since stacking hides a parameter's rank."""
    name = path.rsplit("/", 1)[-1]
    return name not in ("bias", "scale")


def _trust_ratio(path: str, update: jax.Array, param: jax.Array) -> jax.Array:
    """Scales the update by LAMB's ||w|| / ||u||, per layer if the tensor is stacked."""
    axes = tuple(range(1 if stack_of(path) else 0, param.ndim))
    norm = jnp.sqrt(jnp.sum(jnp.square(param), axes, keepdims=True))
    size = jnp.sqrt(jnp.sum(jnp.square(update), axes, keepdims=True))
    valid = (norm > 0) & (size > 0)
    return update * jnp.where(valid, norm / jnp.where(valid, size, 1.0), 1.0)


def make(config: OptimizerConfig, steps: int, shapes: Any) -> optax.GradientTransformation:
    """The optimizer for a run of `steps` steps on params of these shapes.

    Raises UserError for a pattern that matches no parameter.
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
    """The peak learning rate is part of the state, not of the program, so runs that differ only in
    it share one compiled step."""

    count: jax.Array
    peak: jax.Array


def _scale_by_rate(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Multiplies the updates by minus the schedule's learning rate."""
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
        mask = functools.partial(map_by_path, lambda path, _: decays(path))
        chain.append(optax.add_decayed_weights(config.weight_decay, mask))
    if config.name == "lamb":
        chain.append(optax.stateless(functools.partial(map_by_path, _trust_ratio)))
    return [*chain, _scale_by_rate(config, steps)]


def _scale_by(rates: Mapping[str, np.ndarray]) -> optax.GradientTransformation:
    """Multiplies the updates by these rates, layer by layer if stacked."""

    def scale(path: str, u: jax.Array) -> jax.Array:
        rate = rates[path]
        return u * rate.reshape(rate.shape + (1,) * (u.ndim - rate.ndim))

    return optax.stateless(lambda updates, _: map_by_path(scale, updates))


def run_steps(
    steps: int, epochs: float, batches_per_epoch: int, items: int = 0, batch_size: int = 1
) -> int:
    """Steps of a run whose length is set in steps, in epochs, or in `items` (as in batch_size)."""
    return steps or max(1, math.ceil(epochs * batches_per_epoch or items / batch_size))

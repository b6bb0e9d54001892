"""Judges on the device, within the step, whether the step is bad; nothing waits for the host.

A step is bad if its loss or the norm of its gradient is not finite, or if its loss is a spike:
above `spike` times the running median. The guard also looks at the new parameters: they are never
saved if their norm is not finite in float32.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

WINDOW = 64  # number of good steps whose losses the median is taken of
FEWEST = 16  # good steps before a loss counts as a spike
GOOD, BAD, BROKEN = 0, 1, 2  # verdicts; BROKEN: the step leaves parameters that are not finite


@dataclasses.dataclass(frozen=True)
class Guard:
    """leave_out: a bad step only advances the step number. spike: a loss above `spike` times the
    median is bad; 0: no loss is a spike."""

    leave_out: bool = False
    spike: float = 0.0

    def first_losses(self) -> Any:
        """Returns the losses before the first step: [WINDOW] of NaN, or () if not needed."""
        return jnp.full((WINDOW,), jnp.nan, jnp.float32) if self.spike else ()

    def is_bad(self, losses: jax.Array, loss: jax.Array, norm: jax.Array) -> jax.Array:
        """Whether a step with this loss and gradient norm is bad, given earlier good `losses`."""
        bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
        if self.spike:
            enough = jnp.isfinite(losses).sum() >= FEWEST
            bad |= enough & (loss > self.spike * jnp.nanmedian(losses))
        return bad

    def after(self, losses: jax.Array, loss: jax.Array, bad: jax.Array) -> jax.Array:
        """Returns the losses of good steps, including this step's if it is good."""
        if not self.spike:
            return losses
        return jnp.where(bad, losses, jnp.roll(losses, -1).at[-1].set(loss))

    def kept(self, bad: jax.Array, old: Any, new: Any) -> Any:
        """Returns `new`, or `old` if the step is bad and left out."""
        if not self.leave_out:
            return new
        return jax.tree.map(lambda a, b: jnp.where(bad, a, b), old, new)


def verdict(bad: jax.Array, params: Any) -> jax.Array:
    """Returns GOOD, BAD or BROKEN for a step that leaves `params`."""
    broken = ~jnp.isfinite(optax.global_norm(params))
    return jnp.where(bad, BAD, jnp.where(broken, BROKEN, GOOD)).astype(jnp.int32)

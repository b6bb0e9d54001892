"""Which steps are bad, judged on the device within the step, so that nothing waits for the host.

A step is bad where its loss or the norm of its gradient is not finite, or where its loss is a
spike: above so many times the running median. What it leaves is looked at too: parameters whose
norm is not finite in float32 are never saved.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

WINDOW = 64  # losses of good steps that the median is of
FEWEST = 16  # of them, before there is a median to speak of
GOOD, BAD, BROKEN = 0, 1, 2  # verdicts: BROKEN is of what the step leaves


@dataclasses.dataclass(frozen=True)
class Guard:
    """leave_out: a bad step changes nothing but the number of steps. spike: times the median; 0:
    there are no spikes."""

    leave_out: bool = False
    spike: float = 0.0

    def first_losses(self) -> Any:
        """The losses of before the first step: [WINDOW] of NaN, or () where none are needed."""
        return jnp.full((WINDOW,), jnp.nan, jnp.float32) if self.spike else ()

    def is_bad(self, losses: jax.Array, loss: jax.Array, norm: jax.Array) -> jax.Array:
        """Whether a step of this loss and norm of the gradient is bad after steps of `losses`."""
        bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
        if self.spike:
            enough = jnp.isfinite(losses).sum() >= FEWEST
            bad |= enough & (loss > self.spike * jnp.nanmedian(losses))
        return bad

    def after(self, losses: jax.Array, loss: jax.Array, bad: jax.Array) -> jax.Array:
        """The losses of good steps, this one among them if it is good."""
        if not self.spike:
            return losses
        return jnp.where(bad, losses, jnp.roll(losses, -1).at[-1].set(loss))

    def kept(self, bad: jax.Array, old: Any, new: Any) -> Any:
        """What the step leaves: `old` of a bad one that is left out."""
        if not self.leave_out:
            return new
        return jax.tree.map(lambda a, b: jnp.where(bad, a, b), old, new)


def verdict(bad: jax.Array, params: Any) -> jax.Array:
    """GOOD, BAD or BROKEN, of a step that leaves `params`."""
    broken = ~jnp.isfinite(optax.global_norm(params))
    return jnp.where(bad, BAD, jnp.where(broken, BROKEN, GOOD)).astype(jnp.int32)

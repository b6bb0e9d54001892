"""Cross-entropy over the vocabulary without a [rows, length, vocabulary] tensor in float32.

Axes: R rows, N places, C places of a chunk, D width, V rows of the embedding table.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research.models.heads import vocabulary_logits


def sums(
    features: Float[Array, "R N D"],
    table: Float[Array, "V D"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "R N"],
    weights: Float[Array, "R N"],
    vocab_size: int,
) -> tuple[Array, Array]:
    """(sum of weighted cross-entropies in nats, weighted number of correct top predictions)."""
    logits = vocabulary_logits(features, table, bias, vocab_size)
    # A one-hot product keeps a vocabulary-sharded axis sharded, where a gather would not.
    picked = jnp.sum(logits * jax.nn.one_hot(targets, logits.shape[-1], dtype=jnp.float32), -1)
    losses = jax.nn.logsumexp(logits, axis=-1) - picked
    correct = (jnp.argmax(logits, -1) == targets).astype(jnp.float32)
    return jnp.sum(losses * weights), jnp.sum(correct * weights)


def chunk_length(length: int, at_most: int) -> int:
    """The largest divisor of `length` that is not above `at_most`."""
    return max(c for c in range(1, min(length, at_most) + 1) if length % c == 0)


def chunked_sums(
    features: Float[Array, "R L D"],
    table: Float[Array, "V D"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "R L"],
    weights: Float[Array, "R L"],
    vocab_size: int,
    chunk: int,
) -> tuple[Array, Array]:
    """As `sums`, in chunks of positions whose logits are computed again for the gradient.

    At most `chunk` positions of each row have their logits in memory at a time.
    """
    rows, length, width = features.shape
    c = chunk_length(length, chunk)
    if c == length:
        return sums(features, table, bias, targets, weights, vocab_size)

    def split(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(rows, length // c, c, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def step(carry: tuple[Array, Array], part: tuple[Array, Array, Array]):
        loss, correct = sums(part[0], table, bias, part[1], part[2], vocab_size)
        return (carry[0] + loss, carry[1] + correct), None

    zero = jnp.zeros((), jnp.float32)
    parts = (split(features), split(targets), split(weights))
    total, _ = jax.lax.scan(step, (zero, zero), parts)
    return total

"""Cross-entropy over the vocabulary without a [rows, length, vocabulary] tensor in float32.

Axes: R rows, N places, C places of a chunk, D width, V rows of the embedding table.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from research.models.heads import vocabulary_logits
from research.sharding.constrain import axis_size, constrain


def sums(
    features: Float[Array, "R N D"],
    table: Float[Array, "V D"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "R N"],
    weights: Float[Array, "R N"],
    vocab_size: int,
) -> tuple[Array, Array]:
    """Returns (weighted sum of cross-entropies in nats, weighted number of correct predictions)."""
    logits = vocabulary_logits(features, table, bias, vocab_size)
    losses = _losses(logits, targets)
    correct = (jnp.argmax(logits, -1) == targets).astype(jnp.float32)
    return jnp.sum(losses * weights), jnp.sum(correct * weights)


def _losses(logits: Float[Array, "R N V"], targets: Int[Array, "R N"]) -> Float[Array, "R N"]:
    # Unlike a gather, a one-hot product keeps a vocabulary-sharded axis sharded.
    picked = jnp.sum(logits * jax.nn.one_hot(targets, logits.shape[-1], dtype=jnp.float32), -1)
    return jax.nn.logsumexp(logits, axis=-1) - picked


def in_chunks(x: Shaped[Array, "R L ..."], at_most: int) -> Shaped[Array, "N R C ..."]:
    """Splits positions into N chunks of C, at most `at_most` (or the number of "context" shards if
    that is more). C divides L. A chunk is every N-th position, so that it takes equally many from
    each shard of a split row."""
    rows, length = x.shape[:2]
    parts = axis_size("context")
    fits = [c for c in range(parts, min(length, at_most) + 1, parts) if length % c == 0]
    c = max(fits, default=parts)
    chunks = jnp.moveaxis(x.reshape(rows, c, length // c, *x.shape[2:]), 2, 0)
    return constrain(chunks, None, "rows", "length", *[None] * (x.ndim - 2))


def chunked_sums(
    features: Float[Array, "R L D"],
    table: Float[Array, "V D"],
    bias: Float[Array, " V"] | None,
    targets: Int[Array, "R L"],
    weights: Float[Array, "R L"],
    vocab_size: int,
    chunk: int,
) -> tuple[Array, Array]:
    """Computes `sums` in chunks of positions, and their logits again for the gradient.

    At most `chunk` positions of each row have their logits in memory at a time.
    """
    parts = tuple(in_chunks(x, chunk) for x in (features, targets, weights))
    # Outside of the loop, or a sharded table would be gathered again in every chunk.
    table = constrain(table.astype(features.dtype), "vocab", None)
    if parts[0].shape[0] == 1:
        return sums(features, table, bias, targets, weights, vocab_size)

    @jax.checkpoint
    def step(carry: tuple[Array, Array], part: tuple[Array, Array, Array]):
        loss, correct = sums(part[0], table, bias, part[1], part[2], vocab_size)
        return (carry[0] + loss, carry[1] + correct), None

    zero = jnp.zeros((), jnp.float32)
    total, _ = jax.lax.scan(step, (zero, zero), parts)
    return total


def token_losses(
    features: Float[Array, "R L D"],
    table: Float[Array, "V D"],
    targets: Int[Array, "R L"],
    vocab_size: int,
    chunk: int,
) -> Float[Array, "R L"]:
    """Returns each position's cross-entropy in nats, `chunk` positions of a row at a time."""

    def one(part: tuple[Array, Array]) -> Array:
        return _losses(vocabulary_logits(part[0], table, None, vocab_size), part[1])

    parts = (in_chunks(features, chunk), in_chunks(targets, chunk))
    return jnp.moveaxis(jax.lax.map(one, parts), 0, 2).reshape(targets.shape)

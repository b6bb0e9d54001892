"""Chooses the next token from logits: greedy, or with temperature, top-k, top-p and min-p.

The order is that of transformers' logits processors: repetition penalty, temperature, top-k, top-p,
min-p. Axes: B rows, L tokens of a row, V rows of the embedding table.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def only(logits: Float[Array, "B V"], allowed: Bool[Array, " V"]) -> Float[Array, "B V"]:
    """Sets the logits of tokens that are not allowed to -inf."""
    return jnp.where(allowed, logits, -jnp.inf)


def seen_tokens(
    tokens: Int[Array, "B L"], lengths: Int[Array, " B"], size: int
) -> Bool[Array, "B V"]:
    """Whether each of `size` token ids is among the first `lengths` tokens of each row."""
    rows, width = tokens.shape
    real = jnp.arange(width) < lengths[:, None]
    return jnp.zeros((rows, size), bool).at[jnp.arange(rows)[:, None], tokens].max(real)


def penalise(
    logits: Float[Array, "B V"], seen: Bool[Array, "B V"], penalty: float | Array
) -> Float[Array, "B V"]:
    """Makes seen tokens less probable, if penalty > 1 (Keskar et al. 2019, arXiv:1909.05858).

    Positive logits are divided by the penalty and negative ones multiplied by it, as in
    transformers' RepetitionPenaltyLogitsProcessor: a division alone would favour negative ones.
    """
    return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)


def greedy(logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    """The most probable token; the first of equally probable ones."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def cool(logits: Float[Array, "B V"], temperature: float | Array) -> Float[Array, "B V"]:
    """Shifts the highest logit to 0, then divides by the temperature, at least `COLDEST`."""
    return (logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature


def top_k(logits: Float[Array, "B V"], k: int | Array) -> Float[Array, "B V"]:
    """Keeps the k most probable tokens, else -inf (Fan et al. 2018, arXiv:1805.04833).

    Tokens as probable as the k-th one stay too.
    """
    probability = jax.nn.softmax(logits, axis=-1)
    return _most_probable(logits, probability, jnp.ones_like(probability), k)


def top_p(logits: Float[Array, "B V"], p: float | Array) -> Float[Array, "B V"]:
    """Keeps the nucleus, else -inf (Holtzman et al. 2019, arXiv:1904.09751).

    The nucleus is the smallest set of the most probable tokens whose probabilities sum to at least
    `p`. The token that crosses `p` belongs to it, so the most probable token always does. Tokens as
    probable as its last one stay too.
    """
    probability = jax.nn.softmax(logits, axis=-1)
    return _most_probable(logits, probability, probability, p)


def min_p(logits: Float[Array, "B V"], p: float | Array) -> Float[Array, "B V"]:
    """Sets tokens less than `p` times as probable as the most probable one to -inf, p > 0.

    Nguyen et al. 2024, arXiv:2407.01082. The most probable token always stays.
    """
    highest = jnp.max(logits, axis=-1, keepdims=True)
    return jnp.where(logits - highest >= jnp.log(p), logits, -jnp.inf)


def _most_probable(
    logits: Float[Array, "B V"],
    probability: Float[Array, "B V"],
    weights: Float[Array, "B V"],
    enough: float | Array,
) -> Float[Array, "B V"]:
    """Keeps the most probable tokens whose weights sum to `enough` (or all tokens), else -inf.

    Bisection finds the lowest probability that stays; on a CPU it takes a fortieth of the time of
    sorting 50,000 logits. Floats of one sign are ordered like their bits, so 30 halvings of the
    bits of [0, 1] give the exact number.
    """
    bits = jax.lax.bitcast_convert_type(probability, jnp.int32)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        weight = jnp.sum(jnp.where(bits >= middle, weights, 0.0), axis=-1, keepdims=True)
        return jnp.where(weight >= enough, middle, low), jnp.where(weight >= enough, high, middle)

    none = jnp.zeros((logits.shape[0], 1), jnp.int32)
    above_one = jax.lax.bitcast_convert_type(jnp.float32(1.0), jnp.int32) + 1
    low, _ = jax.lax.fori_loop(0, 30, halve, (none, none + above_one))
    return jnp.where(bits >= low, logits, -jnp.inf)


def row_keys(seed: Array, ids: Int[Array, " B"], positions: Int[Array, " B"]) -> Array:
    """One PRNG key per row, from (seed, id of its example, position of the token to draw) alone."""
    key = jax.random.key(seed)
    return jax.vmap(lambda i, p: jax.random.fold_in(jax.random.fold_in(key, i), p))(ids, positions)


def draw(logits: Float[Array, "B V"], keys: Array) -> Int[Array, " B"]:
    """Draws a token of each row from the softmax of its logits; `keys` [B].

    Noise is drawn by token id, not by rank, so logits that differ by rounding give equal draws.
    """
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

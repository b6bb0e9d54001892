"""The next token from logits: greedy, or drawn with temperature, top-k, top-p and min-p.

The order is that of transformers' logits processors: repetition penalty, temperature, top-k, top-p,
min-p. Axes: B rows, L tokens of a row, V rows of the embedding table.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def only(logits: Float[Array, "B V"], allowed: Bool[Array, " V"]) -> Float[Array, "B V"]:
    """-inf for the tokens that are not allowed."""
    return jnp.where(allowed, logits, -jnp.inf)


def seen_tokens(
    tokens: Int[Array, "B L"], lengths: Int[Array, " B"], size: int
) -> Bool[Array, "B V"]:
    """Which of `size` token ids are among the first `lengths` tokens of each row."""
    rows, width = tokens.shape
    real = jnp.arange(width) < lengths[:, None]
    return jnp.zeros((rows, size), bool).at[jnp.arange(rows)[:, None], tokens].max(real)


def penalise(
    logits: Float[Array, "B V"], seen: Bool[Array, "B V"], penalty: float | Array
) -> Float[Array, "B V"]:
    """Seen tokens made less probable by a penalty above 1 (Keskar et al. 2019, arXiv:1909.05858).

    Their logits are divided by it where positive and multiplied where negative, as transformers'
    RepetitionPenaltyLogitsProcessor does: a division alone would favour negative ones.
    """
    return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)


def greedy(logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    """The most probable token; of equals the first."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def cool(logits: Float[Array, "B V"], temperature: float | Array) -> Float[Array, "B V"]:
    """Logits divided by a temperature of at least `decoding.COLDEST`, the highest moved to 0."""
    return (logits - jnp.max(logits, axis=-1, keepdims=True)) / temperature


def top_k(logits: Float[Array, "B V"], k: int | Array) -> Float[Array, "B V"]:
    """-inf for all but the k most probable tokens (Fan et al. 2018, arXiv:1805.04833).

    Tokens as probable as the last of them stay too.
    """
    probability = jax.nn.softmax(logits, axis=-1)
    return _most_probable(logits, probability, jnp.ones_like(probability), k)


def top_p(logits: Float[Array, "B V"], p: float | Array) -> Float[Array, "B V"]:
    """-inf for all but the nucleus (Holtzman et al. 2019, arXiv:1904.09751).

    That is the smallest set of the most probable tokens whose probabilities add up to `p` or
    more: the one that crosses `p` belongs to it, so the most probable token always does. Tokens
    as probable as its last one stay too.
    """
    probability = jax.nn.softmax(logits, axis=-1)
    return _most_probable(logits, probability, probability, p)


def min_p(logits: Float[Array, "B V"], p: float | Array) -> Float[Array, "B V"]:
    """-inf for tokens less than `p` times as probable as the most probable one, p > 0.

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
    """-inf for all but the most probable tokens whose weights add up to `enough`, or all of them.

    The last probability that stays is found by bisection, which on a CPU takes a fortieth of the
    time of sorting 50,000 logits. Floats of one sign are ordered like their bits, so 30 halvings
    of the bits of [0, 1] end at the very number.
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
    """One PRNG key a row, from (seed, id of its example, position of the token to draw) alone."""
    key = jax.random.key(seed)
    return jax.vmap(lambda i, p: jax.random.fold_in(jax.random.fold_in(key, i), p))(ids, positions)


def draw(logits: Float[Array, "B V"], keys: Array) -> Int[Array, " B"]:
    """A token of each row from the softmax of its logits; `keys` [B].

    Noise is drawn by token id, not by rank: logits that differ by rounding draw alike.
    """
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

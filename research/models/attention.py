"""Attention over packed rows.

Axes: B rows, L queries, M keys, H heads, G key/value heads, K width of a head.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from research.models import dropout

Pattern = Literal["full", "causal", "prefix"]
PATTERNS: tuple[str, ...] = ("full", "causal", "prefix")
MASKED = -1e30  # finite, so that a row of padding gives no NaN


def segment_mask(
    segments: Int[Array, "B L"], pattern: Pattern, prefix: Bool[Array, "B L"] | None = None
) -> Bool[Array, "B L L"]:
    """True where a query may see a key. Both must lie in the same segment, outside of padding
    (segment 0). "causal" hides later keys; "prefix" hides them unless `prefix` marks them.

    A segment's tokens lie in order in the row, so the index in the row decides which are later.
    """
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
    if pattern == "full":
        return same
    length = segments.shape[1]
    seen = jnp.tril(jnp.ones((length, length), bool))
    return same & (seen if pattern == "causal" else seen | prefix[:, None, :])


def alibi_slopes(heads: int) -> Float[np.ndarray, " H"]:
    """ALiBi's slope of each head (Press et al. 2021, arXiv:2108.12409): the penalty on a score per
    position of distance. They are powers of 2 ** (-8 / heads). If `heads` is not a power of two,
    they are the slopes for the next lower power, then every other slope for the next higher.
    """

    def powers(count: int) -> Float[np.ndarray, " count"]:
        return 2.0 ** (-8.0 / count * np.arange(1, count + 1))

    lower = 1 << (heads.bit_length() - 1)
    return np.concatenate([powers(lower), powers(2 * lower)[::2][: heads - lower]])


def rotate(
    x: Float[Array, "B L H K"], positions: Int[Array, "B L"], base: float | Float[Array, ""]
) -> Float[Array, "B L H K"]:
    """Rotary position embedding in the half-split layout (Su et al. 2021, arXiv:2104.09864)."""
    half = x.shape[-1] // 2
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle)[:, :, None], jnp.sin(angle)[:, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def attend(
    query: Float[Array, "B L H K"],
    key: Float[Array, "B M G K"],
    value: Float[Array, "B M G K"],
    mask: Bool[Array, "B L M"],
    dropout_rate: float = 0.0,
    dropout_keys: Array | None = None,
    distance: Int[Array, "B L M"] | None = None,
) -> Float[Array, "B L H K"]:
    """Scaled dot-product attention (Vaswani et al. 2017), grouped heads where G < H.

    Scores and softmax are float32. H must be a multiple of G.

    Args:
        distance: positions between query and key, by which ALiBi lowers the scores; None: no
            ALiBi.
    """
    rows, queries, heads, width = query.shape
    groups = key.shape[2]
    grouped = query.reshape(rows, queries, groups, heads // groups, width) * width**-0.5
    scores = jnp.einsum("blgrk,bmgk->bgrlm", grouped, key, preferred_element_type=jnp.float32)
    if distance is not None:
        slopes = jnp.asarray(alibi_slopes(heads), jnp.float32).reshape(groups, -1, 1, 1)
        scores -= slopes * distance[:, None, None]
    scores = jnp.where(mask[:, None, None], scores, MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    weights = dropout.rows(weights, dropout_rate, dropout_keys)
    mixed = jnp.einsum("bgrlm,bmgk->blgrk", weights, value)
    return mixed.reshape(rows, queries, heads, width)

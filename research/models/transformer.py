"""The backbone: one transformer for every family, as pure functions of its params.

Axes: B rows, L positions of a row, S segments of a row, D width, K width of a head; in a cache N
layers, M positions, G key/value heads.

One block (`layers.Block`) with pre-norm:

    n = norm(x)                                          x, n [B, L, D]
    q, k, v = query(n), key(n), value(n)                 [B, L, H, K]; k and v have G heads
    x += dropout(output(attend(rotate(q), rotate(k), v)))
    x += dropout(down(activation(up(norm(x)))))          gated: activation(gate(n)) * up(n)

Post-norm normalises the two sums instead. Block parameters are stacked: every leaf of
`params["layers"]` has a leading axis of length `layers`, so one block is compiled whatever the
depth.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax.linen.spmd import LogicallyPartitioned
from jaxtyping import Array, Bool, Float, Int

from research.models import attention, dropout, kernels
from research.models.config import ModelConfig
from research.models.dropout import Dropout, Place
from research.models.layers import Block, Embedding, Params, Pooler, norm
from research.sharding.constrain import constrain

# What the forward pass saves of a block for the backward pass, which recomputes the rest.
REMAT = {
    "block": None,  # nothing
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # products with weights
}


def init(key: Array, config: ModelConfig) -> Params:
    """New backbone params, each leaf boxed with its logical axes (`research.models.params`)."""
    embed_key, block_key, pool_key, norm_key = jax.random.split(key, 4)
    ids = jnp.zeros((1, 2), jnp.int32)
    hidden = jnp.zeros((1, 2, config.width), config.dtype)

    def one_block(block_key: Array) -> Params:
        drop = Dropout(config)
        return Block(config).init(block_key, hidden, lambda q, k, v: q, drop)["params"]

    def stacked(box: LogicallyPartitioned) -> LogicallyPartitioned:
        return box.replace(names=("layers", *box.names))  # the leading axis that vmap adds

    layers = jax.vmap(one_block)(jax.random.split(block_key, config.layers))
    params = {
        "embedding": Embedding(config).init(embed_key, ids, ids, ids)["params"],
        "layers": jax.tree.map(
            stacked, layers, is_leaf=lambda x: isinstance(x, LogicallyPartitioned)
        ),
    }
    if config.norm_place == "pre":
        params["final_norm"] = norm(config, "final_norm").init(norm_key, hidden)["params"]
    if config.pooler:
        params["pooler"] = Pooler(config).init(pool_key, hidden)["params"]
    return params


def embed(params: Params, config: ModelConfig, tokens, positions, types) -> Float[Array, "B L D"]:
    """Embeddings of a batch, before the first block."""
    return Embedding(config).apply({"params": params["embedding"]}, tokens, positions, types)


def final_norm(
    params: Params, config: ModelConfig, x: Float[Array, "B L D"]
) -> Float[Array, "B L D"]:
    """Applies the norm after the last block, which only pre-norm families have."""
    if config.norm_place == "post":
        return x
    return norm(config, "final_norm").apply({"params": params["final_norm"]}, x)


def is_local(config: ModelConfig, index: Int[Array, ""]) -> Bool[Array, ""] | bool:
    """Whether layer `index` has local attention."""
    return index % config.global_every != 0 if config.window else False


def position_in_attention(
    config: ModelConfig, positions: Int[Array, "B L"], local: Bool[Array, ""] | bool
) -> Callable:
    """Returns the function that puts positions into queries and keys: rotation, or identity."""
    if config.positions != "rope":
        return lambda x: x
    base = config.rope_base
    if config.window:
        base = jnp.where(local, config.local_rope_base, base)
    return lambda x: attention.rotate(x, positions, base)


def distances(
    config: ModelConfig, queries: Int[Array, "B L"], keys: Int[Array, "B M"]
) -> Int[Array, "B L M"] | None:
    """Positions between each query and key, which ALiBi needs; None for other families."""
    if config.positions != "alibi":
        return None
    return jnp.abs(queries[:, :, None] - keys[:, None, :])


def masks(
    config: ModelConfig,
    mask: Bool[Array, "B L M"],
    queries: Int[Array, "B L"],
    keys: Int[Array, "B M"],
) -> Callable[[Bool[Array, ""] | bool], Bool[Array, "B L M"]]:
    """Returns `is_local` of a layer -> its mask; a local layer sees at most half a window away."""
    if not config.window:
        return lambda local: mask
    # Computed here, once: inside the scan it would be computed for every layer.
    near = mask & (jnp.abs(queries[:, :, None] - keys[:, None, :]) <= config.window // 2)
    return lambda local: jnp.where(local, near, mask)


def encode(
    params: Params,
    config: ModelConfig,
    x: Float[Array, "B L D"],
    segments: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    pattern: attention.Pattern,
    row_keys: Array | None = None,
    prefix: Bool[Array, "B L"] | None = None,
) -> Float[Array, "B L D"]:
    """Runs the blocks and the final norm on embeddings `x`; `row_keys` [B] turn dropout on."""
    kernel = kernels.choose(config, segments.shape[1], row_keys is not None, pattern)
    if kernel == "splash":
        fused = kernels.splash(config, segments, pattern)
    else:
        mask = constrain(attention.segment_mask(segments, pattern, prefix), "rows", "length", None)
        mask_of = masks(config, mask, positions, positions)
        distance = distances(config, positions, positions)

    def layer(x: Array, scanned: tuple[Params, Array]) -> tuple[Array, None]:
        block, index = scanned
        local = is_local(config, index)
        turn = position_in_attention(config, positions, local)
        drop = Dropout(config, row_keys, index)

        def attend(query: Array, key: Array, value: Array) -> Array:
            query = constrain(turn(query), "rows", "length", "heads", None)
            # Each part of a row sees the whole row: keys and values are gathered over "context".
            key, value = (constrain(x, "rows", None, "kv_heads", None) for x in (turn(key), value))
            if kernel == "splash":
                return fused(query, key, value, local)
            if kernel == "cudnn":
                mixed = kernels.cudnn(query, key, value, mask_of(local), pattern)
            else:
                mixed = attention.attend(
                    query,
                    key,
                    value,
                    mask_of(local),
                    config.attention_dropout,
                    drop.keys(Place.ATTENTION_WEIGHTS),
                    distance,
                )
            return constrain(mixed, "rows", "length", "heads", None)

        x = constrain(x, "rows", "stream", None)
        return Block(config).apply({"params": block}, x, attend, drop), None

    if config.remat != "none":
        layer = jax.checkpoint(layer, policy=REMAT[config.remat], prevent_cse=False)
    if row_keys is not None:
        x = dropout.rows(x, config.dropout, dropout.keys(row_keys, dropout.EMBEDDINGS))
    x, _ = jax.lax.scan(layer, x, (params["layers"], jnp.arange(config.layers)))
    return constrain(final_norm(params, config, x), "rows", "length", None)


class Cache(NamedTuple):
    """Keys (already rotated, in families with rope) and values of the positions so far.

    A head's positions are contiguous, as attention reads them: with the heads innermost, each step
    would transpose the cache and take twice as long (8 rows of 500, CPU).
    """

    keys: Float[Array, "N B G M K"]
    values: Float[Array, "N B G M K"]


def empty_cache(config: ModelConfig, rows: int, length: int) -> Cache:
    """An empty cache for `rows` rows of at most `length` positions, in the config's dtype."""
    shape = (config.layers, rows, config.key_heads, length, config.head_width)

    def zeros() -> Array:
        return constrain(jnp.zeros(shape, config.dtype), None, "rows", "kv_heads", None, None)

    return Cache(zeros(), zeros())


def apply_cached(
    params: Params,
    config: ModelConfig,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    cache: Cache,
    visible: int,
    prefix: Int[Array, " B"] | None = None,
) -> tuple[Float[Array, "B L D"], Cache]:
    """Runs the model causally on new tokens; returns their hidden states and the updated cache.

    A token's index in the cache is its position. Keys and values are written at `positions`; a
    query sees its own position and those before it, so stale entries further on are never seen and
    may be overwritten later.

    Args:
        visible: number of leading positions of the cache that queries may see at all; static.
        prefix: number of leading positions of each row that all of its queries see, even earlier
            ones; None: no prefix.
    """
    x = embed(params, config, tokens, positions, jnp.zeros_like(tokens))
    keys_at = jnp.arange(visible)[None]
    seen = keys_at[:, None] <= positions[:, :, None]
    if prefix is not None:
        seen |= keys_at[:, None] < prefix[:, None, None]
    mask_of = masks(config, seen, positions, keys_at)
    distance = distances(config, positions, keys_at)
    rows = jnp.arange(x.shape[0])[:, None]

    def layer(carry: tuple[Array, Cache], scanned: tuple[Params, Array]):
        x, cache = carry
        block, index = scanned
        local = is_local(config, index)
        turn = position_in_attention(config, positions, local)
        mask = mask_of(local)

        def attend(query: Array, key: Array, value: Array) -> Array:
            nonlocal cache
            # The whole stack is carried and written at (layer, row, position), which XLA does in
            # place; a cache as an input and output of the scan would be copied at every token.
            cache = Cache(
                cache.keys.at[index, rows, :, positions].set(turn(key)),
                cache.values.at[index, rows, :, positions].set(value),
            )
            seen = [jax.lax.dynamic_index_in_dim(a, index, keepdims=False) for a in cache]
            keys, values = (jnp.swapaxes(a[:, :, :visible], 1, 2) for a in seen)
            return attention.attend(turn(query), keys, values, mask, distance=distance)

        x = constrain(x, "rows", None, None)
        x = Block(config).apply({"params": block}, x, attend, Dropout(config, index=index))
        return (x, cache), None

    scanned = (params["layers"], jnp.arange(config.layers))
    (x, cache), _ = jax.lax.scan(layer, (x, cache), scanned)
    return final_norm(params, config, x), cache


def apply(
    params: Params,
    config: ModelConfig,
    batch: dict[str, Array],
    pattern: attention.Pattern,
    row_keys: Array | None = None,
) -> Float[Array, "B L D"]:
    """Hidden states of a batch with `tokens`, `segments`, `positions`, `token_types`, each [B, L].

    Args:
        params: the backbone's params, unboxed.
        pattern: "full" (encoder), "causal", or "prefix", with which the batch needs `prefix`, the
            positions that the whole segment sees; static.
        row_keys: one PRNG key per row turns dropout on; None: off.
    """
    x = embed(params, config, batch["tokens"], batch["positions"], batch["token_types"])
    prefix = batch["prefix"] if pattern == "prefix" else None
    return encode(
        params, config, x, batch["segments"], batch["positions"], pattern, row_keys, prefix
    )


def gather(hidden: Float[Array, "B L D"], index: Int[Array, "B N"]) -> Float[Array, "B N D"]:
    """Hidden states at the given positions of each row."""
    return jnp.take_along_axis(hidden, index[:, :, None], axis=1)


def pool(
    params: Params, config: ModelConfig, hidden: Float[Array, "B L D"], first: Int[Array, "B S"]
) -> Float[Array, "B S D"]:
    """The pooler's output for the first token of each segment."""
    return Pooler(config).apply({"params": params["pooler"]}, gather(hidden, first))

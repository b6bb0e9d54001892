"""The backbone: one transformer for every family, as pure functions of its params.

Axes: B rows, L positions of a row, S slots of a row, D width, H heads, K width of a head,
V rows of the embedding table; in a cache N layers, M positions, G key/value heads.
Block parameters are stacked: every leaf of `params["layers"]` has a leading axis of length
`layers`, and one block is compiled whatever the depth.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import LogicallyPartitioned
from jaxtyping import Array, Bool, Float, Int

from research.models import attention
from research.models.config import ModelConfig
from research.sharding.constrain import constrain

Params = dict[str, Any]
Attend = Callable[[Array, Array, Array], Array]
Drop = Callable[[Array, int], Array]

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
}


def _kernel(config: ModelConfig, *axes: str):
    return nn.with_logical_partitioning(nn.initializers.normal(config.initializer_range), axes)


def dense(
    config: ModelConfig,
    name: str,
    features: int | tuple[int, ...],
    axes: tuple[str, ...],
    contract: int = 1,
    bias: bool | None = None,
) -> nn.DenseGeneral:
    """A linear layer whose kernel has logical `axes`, contracting the last `contract` dims."""
    return nn.DenseGeneral(
        features,
        axis=tuple(range(-contract, 0)),
        use_bias=config.bias if bias is None else bias,
        dtype=config.dtype,
        kernel_init=_kernel(config, *axes),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[contract:]),
        name=name,
    )


def norm(config: ModelConfig, name: str) -> nn.Module:
    """Layer or RMS norm, computed in float32 (flax does so for the statistics)."""
    scale = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.norm_epsilon, dtype=config.dtype, scale_init=scale, name=name)
    shift = nn.with_logical_partitioning(nn.initializers.zeros, ("embed",))
    return nn.LayerNorm(
        config.norm_epsilon,
        dtype=config.dtype,
        use_bias=config.bias,
        scale_init=scale,
        bias_init=shift,
        name=name,
    )


class Attention(nn.Module):
    """Projections around `attend`, which owns mask, positions and cache."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"], attend: Attend) -> Float[Array, "B L D"]:
        c = self.config
        inner = ("embed", "heads", "head_width")
        keys = ("embed", "kv_heads", "head_width")
        query = dense(c, "query", (c.heads, c.head_width), inner)(x)
        key = dense(c, "key", (c.key_heads, c.head_width), keys)(x)
        value = dense(c, "value", (c.key_heads, c.head_width), keys)(x)
        mixed = attend(query, key, value)
        return dense(c, "output", c.width, ("heads", "head_width", "embed"), contract=2)(mixed)


class Mlp(nn.Module):
    """The position-wise layer; gated (Shazeer 2020, arXiv:2002.05202) where the family has it."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        c = self.config
        act = ACTIVATIONS[c.activation]
        up = dense(c, "up", c.mlp_width, ("embed", "mlp"))(x)
        if c.gated:
            hidden = act(dense(c, "gate", c.mlp_width, ("embed", "mlp"))(x)) * up
        else:
            hidden = act(up)
        return dense(c, "down", c.width, ("mlp", "embed"))(hidden)


class Block(nn.Module):
    """One layer. Pre-norm adds to an untouched stream, post-norm normalises the sum."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], attend: Attend, drop: Drop, first: Bool[Array, ""] | bool
    ):
        c = self.config
        attention_norm, mlp_norm = norm(c, "attention_norm"), norm(c, "mlp_norm")
        heads, mlp = Attention(c, name="attention"), Mlp(c, name="mlp")
        if c.norm_place == "pre":
            normed = attention_norm(x)
            if not c.first_attention_norm:
                normed = jnp.where(first, x, normed)
            x = x + drop(heads(normed, attend), 0)
            return x + drop(mlp(mlp_norm(x)), 1)
        x = attention_norm(x + drop(heads(x, attend), 0))
        return mlp_norm(x + drop(mlp(x), 1))


class Embedding(nn.Module):
    """Sum of token, position and type embeddings, normalised where the family does."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], positions: Int[Array, "B L"], types: Int[Array, "B L"]
    ) -> Float[Array, "B L D"]:
        c = self.config
        init = _kernel(c, "vocab", "embed")
        table = self.param("word", init, (c.padded_vocab, c.width))
        # A table whose width is sharded would be re-materialised whole for the lookup.
        x = constrain(table, "vocab", None)[tokens]
        if c.positions == "learned":
            shape = (c.max_positions, c.width)
            table = self.param("position", _kernel(c, "positions", "embed"), shape)
            x = x + constrain(table, None, None)[positions]
        if c.token_types:
            shape = (c.token_types, c.width)
            table = self.param("token_type", _kernel(c, "types", "embed"), shape)
            # A family with one type (RoBERTa) does not tell the parts of a pair apart.
            x = x + constrain(table, None, None)[jnp.minimum(types, c.token_types - 1)]
        x = x.astype(c.dtype)
        return norm(c, "norm")(x) if c.embedding_norm else x


class Pooler(nn.Module):
    """BERT's pooler: a dense layer and tanh (DistilBERT: relu) on the first token of a slot."""

    config: ModelConfig

    @nn.compact
    def __call__(self, first: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
        c = self.config
        act = {"tanh": jnp.tanh, "relu": jax.nn.relu}[c.pooler_activation]
        return act(dense(c, "dense", c.width, ("embed", "embed"), bias=True)(first))


def _stack_names(tree: Params) -> Params:
    """Names the leading axis that vmap put on every block parameter."""

    def rename(box: LogicallyPartitioned) -> LogicallyPartitioned:
        return box.replace(names=("layers", *box.names))

    return jax.tree.map(rename, tree, is_leaf=lambda x: isinstance(x, LogicallyPartitioned))


def init(key: Array, config: ModelConfig) -> Params:
    """New backbone params, each leaf boxed with its logical axes (`research.models.params`)."""
    embed_key, block_key, pool_key, norm_key = jax.random.split(key, 4)
    ids = jnp.zeros((1, 2), jnp.int32)
    hidden = jnp.zeros((1, 2, config.width), config.dtype)

    def one_block(block_key: Array) -> Params:
        made = Block(config).init(block_key, hidden, lambda q, k, v: q, lambda x, _: x, False)
        return made["params"]

    params = {
        "embedding": Embedding(config).init(embed_key, ids, ids, ids)["params"],
        "layers": _stack_names(jax.vmap(one_block)(jax.random.split(block_key, config.layers))),
    }
    if config.norm_place == "pre":
        params["final_norm"] = norm(config, "final_norm").init(norm_key, hidden)["params"]
    if config.pooler:
        params["pooler"] = Pooler(config).init(pool_key, hidden)["params"]
    return params


def embed(params: Params, config: ModelConfig, tokens, positions, types) -> Float[Array, "B L D"]:
    """Embeddings of a batch, before the first block."""
    return Embedding(config).apply({"params": params["embedding"]}, tokens, positions, types)


def finish(params: Params, config: ModelConfig, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """The final norm of the pre-norm families."""
    if config.norm_place == "post":
        return x
    return norm(config, "final_norm").apply({"params": params["final_norm"]}, x)


def is_local(config: ModelConfig, index: Int[Array, ""]) -> Bool[Array, ""] | bool:
    """Whether layer `index` sees only what is near."""
    return index % config.global_every != 0 if config.window else False


def position_in_attention(
    config: ModelConfig, positions: Int[Array, "B L"], local: Bool[Array, ""] | bool
) -> Callable:
    """What the family does to queries and keys so that they know their positions."""
    if config.positions != "rope":
        return lambda x: x
    base = config.rope_base
    if config.window:
        base = jnp.where(local, config.local_rope_base, base)
    return lambda x: attention.rotate(x, positions, base)


def visible_keys(
    config: ModelConfig,
    mask: Bool[Array, "B L M"],
    queries: Int[Array, "B L"],
    keys: Int[Array, "B M"],
    local: Bool[Array, ""] | bool,
) -> Bool[Array, "B L M"]:
    """The mask of a layer: a local one sees of `mask` what is at most half a window away."""
    if not config.window:
        return mask
    distance = jnp.abs(queries[:, :, None] - keys[:, None, :])
    return mask & (jnp.logical_not(local) | (distance <= config.window // 2))


def encode(
    params: Params,
    config: ModelConfig,
    x: Float[Array, "B L D"],
    slots: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    pattern: attention.Pattern,
    row_keys: Array | None = None,
) -> Float[Array, "B L D"]:
    """Runs the blocks on embeddings `x`; `row_keys` [B] turn dropout on."""
    mask = attention.slot_mask(slots, pattern)

    def layer(x: Array, scanned: tuple[Params, Array]) -> tuple[Array, None]:
        block, index = scanned
        local = is_local(config, index)
        place = position_in_attention(config, positions, local)
        seen = visible_keys(config, mask, positions, positions, local)

        def keys(purpose: int) -> Array | None:
            if row_keys is None:
                return None
            return jax.vmap(lambda k: jax.random.fold_in(k, 3 * index + purpose + 1))(row_keys)

        def attend(query: Array, key: Array, value: Array) -> Array:
            return attention.attend(
                place(query), place(key), value, seen, config.attention_dropout, keys(2)
            )

        def drop(y: Array, purpose: int) -> Array:
            return attention.dropout_rows(y, config.dropout, keys(purpose))

        x = constrain(x, "rows", None, None)
        return Block(config).apply({"params": block}, x, attend, drop, index == 0), None

    if config.remat == "block":
        layer = jax.checkpoint(layer)
    if row_keys is not None:
        embed_keys = jax.vmap(lambda k: jax.random.fold_in(k, 0))(row_keys)
        x = attention.dropout_rows(x, config.dropout, embed_keys)
    x, _ = jax.lax.scan(layer, x, (params["layers"], jnp.arange(config.layers)))
    return finish(params, config, x)


class Cache(NamedTuple):
    """Keys (already rotated, in families that do so) and values of the positions seen so far.

    A head's positions lie together, as the products of attention read them: with the heads
    innermost, each step would transpose the cache and take twice as long (8 rows of 500, CPU).
    """

    keys: Float[Array, "N B G M K"]
    values: Float[Array, "N B G M K"]


def empty_cache(config: ModelConfig, rows: int, length: int) -> Cache:
    """A cache for `rows` rows of at most `length` positions, in the dtype of the computation."""
    shape = (config.layers, rows, config.key_heads, length, config.head_width)

    def zeros() -> Array:
        return constrain(jnp.zeros(shape, config.dtype), None, "rows", "heads", None, None)

    return Cache(zeros(), zeros())


def encode_cached(
    params: Params,
    config: ModelConfig,
    x: Float[Array, "B L D"],
    positions: Int[Array, "B L"],
    cache: Cache,
    visible: int,
) -> tuple[Float[Array, "B L D"], Cache]:
    """Runs the blocks, causally, on the embeddings `x` of tokens that go on from a cache.

    A row's index in the cache is its position. Keys and values of `x` are written at `positions`;
    a query sees what lies at its own position and before it, so what a longer row left further
    on is never seen and may be overwritten later.

    Args:
        visible: the first so many positions of the cache hold all that a query may see; static.
    """
    mask = jnp.arange(visible) <= positions[:, :, None]
    rows = jnp.arange(x.shape[0])[:, None]

    def layer(carry: tuple[Array, Cache], scanned: tuple[Params, Array]):
        x, cache = carry
        block, index = scanned
        local = is_local(config, index)
        place = position_in_attention(config, positions, local)
        allowed = visible_keys(config, mask, positions, jnp.arange(visible)[None], local)

        def attend(query: Array, key: Array, value: Array) -> Array:
            nonlocal cache
            # The whole stack is carried and written at (layer, row, position), which XLA does in
            # place; a cache that is scanned over would be copied whole at every token.
            cache = Cache(
                cache.keys.at[index, rows, :, positions].set(place(key)),
                cache.values.at[index, rows, :, positions].set(value),
            )
            seen = [jax.lax.dynamic_index_in_dim(a, index, keepdims=False) for a in cache]
            keys, values = (jnp.swapaxes(a[:, :, :visible], 1, 2) for a in seen)
            return attention.attend(place(query), keys, values, allowed)

        x = constrain(x, "rows", None, None)
        x = Block(config).apply({"params": block}, x, attend, lambda y, _: y, index == 0)
        return (x, cache), None

    scanned = (params["layers"], jnp.arange(config.layers))
    (x, cache), _ = jax.lax.scan(layer, (x, cache), scanned)
    return finish(params, config, x), cache


def apply(
    params: Params,
    config: ModelConfig,
    batch: dict[str, Array],
    pattern: attention.Pattern,
    row_keys: Array | None = None,
) -> Float[Array, "B L D"]:
    """Hidden states of a batch with `tokens`, `slots`, `positions`, `token_types`, each [B, L].

    Args:
        params: the backbone's params, unboxed.
        pattern: "full" (encoder) or "causal"; static.
        row_keys: one PRNG key for each row: dropout on. None: off.
    """
    x = embed(params, config, batch["tokens"], batch["positions"], batch["token_types"])
    return encode(params, config, x, batch["slots"], batch["positions"], pattern, row_keys)


def gather(hidden: Float[Array, "B L D"], index: Int[Array, "B N"]) -> Float[Array, "B N D"]:
    """Hidden states at the given positions of each row."""
    return jnp.take_along_axis(hidden, index[:, :, None], axis=1)


def pool(
    params: Params, config: ModelConfig, hidden: Float[Array, "B L D"], first: Int[Array, "B S"]
) -> Float[Array, "B S D"]:
    """The pooler's output for the first token of each slot."""
    return Pooler(config).apply({"params": params["pooler"]}, gather(hidden, first))

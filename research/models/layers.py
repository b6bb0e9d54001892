"""The layers of the transformer, as Linen modules.

Axes: B rows, L positions of a row, S segments of a row, D width, H heads, K width of a head,
V rows of the embedding table.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research.models import lora
from research.models.config import ModelConfig
from research.models.dropout import Dropout, Place
from research.sharding.constrain import constrain

Params = dict[str, Any]
Attend = Callable[[Array, Array, Array], Array]  # query, key, value, as in `attention.attend`

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
    """A linear layer that contracts the last `contract` dims; its kernel has logical `axes`."""
    return nn.DenseGeneral(
        features,
        axis=tuple(range(-contract, 0)),
        use_bias=config.bias if bias is None else bias,
        dtype=config.dtype,
        kernel_init=_kernel(config, *axes),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[contract:]),
        name=name,
    )


def linear(
    config: ModelConfig,
    path: str,
    features: tuple[int, ...],
    axes: tuple[str, ...],
    x: Float[Array, "..."],
    drop: Dropout,
    contract: int = 1,
) -> Float[Array, "..."]:
    """Applies a linear layer of a block, such as "attention/query", and its adapter if any."""
    name = path.rsplit("/", 1)[-1]
    y = dense(config, name, features, axes, contract)(x)
    if lora.adapted(config, path):
        adapter = lora.Adapter(config, features, axes, contract, name=name + lora.SUFFIX)
        y = y + adapter(drop(x, Place.ADAPTER + lora.LAYERS[path]))
    return y


def norm(config: ModelConfig, name: str) -> nn.Module:
    """Layer or RMS norm, as the config says; flax computes the statistics in float32."""
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
    """The projections of attention; `attend` between them owns mask, positions and cache."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], attend: Attend, drop: Dropout
    ) -> Float[Array, "B L D"]:
        c = self.config
        x = constrain(x, "rows", "length", None)
        inner = ("embed", "heads", "head_width")
        keys = ("embed", "kv_heads", "head_width")
        query = linear(c, "attention/query", (c.heads, c.head_width), inner, x, drop)
        key = linear(c, "attention/key", (c.key_heads, c.head_width), keys, x, drop)
        value = linear(c, "attention/value", (c.key_heads, c.head_width), keys, x, drop)
        mixed = attend(query, key, value)
        outer = ("heads", "head_width", "embed")
        y = linear(c, "attention/output", (c.width,), outer, mixed, drop, contract=2)
        return constrain(y, "rows", "stream", None)


class Mlp(nn.Module):
    """The position-wise MLP; gated (Shazeer 2020, arXiv:2002.05202) if the family is."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"], drop: Dropout) -> Float[Array, "B L D"]:
        c = self.config
        act = ACTIVATIONS[c.activation]
        x = constrain(x, "rows", "length", None)
        up = linear(c, "mlp/up", (c.mlp_width,), ("embed", "mlp"), x, drop)
        if c.gated:
            gate = linear(c, "mlp/gate", (c.mlp_width,), ("embed", "mlp"), x, drop)
            hidden = act(gate) * up
        else:
            hidden = act(up)
        y = linear(c, "mlp/down", (c.width,), ("mlp", "embed"), hidden, drop)
        return constrain(y, "rows", "stream", None)


class Block(nn.Module):
    """One transformer layer. Pre-norm leaves the residual stream as is; post-norm normalises it."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], attend: Attend, drop: Dropout
    ) -> Float[Array, "B L D"]:
        c = self.config
        attention_norm, mlp_norm = norm(c, "attention_norm"), norm(c, "mlp_norm")
        heads, mlp = Attention(c, name="attention"), Mlp(c, name="mlp")
        if c.norm_place == "pre":
            normed = attention_norm(x)
            if not c.first_attention_norm:
                normed = jnp.where(drop.index == 0, x, normed)
            x = x + drop(heads(normed, attend, drop), Place.ATTENTION_OUTPUT)
            return x + drop(mlp(mlp_norm(x), drop), Place.MLP_OUTPUT)
        x = attention_norm(x + drop(heads(x, attend, drop), Place.ATTENTION_OUTPUT))
        return mlp_norm(x + drop(mlp(x, drop), Place.MLP_OUTPUT))


class Embedding(nn.Module):
    """Sum of token, position and type embeddings, with a norm if the family has one."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], positions: Int[Array, "B L"], types: Int[Array, "B L"]
    ) -> Float[Array, "B L D"]:
        c = self.config
        init = _kernel(c, "vocab", "embed")
        table = self.param("word", init, (c.padded_vocab, c.width))
        # If its width stayed sharded, the table would be re-materialised whole for the lookup.
        x = constrain(table, "vocab", None)[tokens]
        if c.positions == "learned":
            shape = (c.max_positions, c.width)
            table = self.param("position", _kernel(c, "positions", "embed"), shape)
            x = x + constrain(table, None, None)[positions]
        if c.token_types:
            shape = (c.token_types, c.width)
            table = self.param("token_type", _kernel(c, "types", "embed"), shape)
            # A family with one type (RoBERTa) does not distinguish the texts of a pair.
            x = x + constrain(table, None, None)[jnp.minimum(types, c.token_types - 1)]
        x = x.astype(c.dtype)
        return norm(c, "norm")(x) if c.embedding_norm else x


class Pooler(nn.Module):
    """BERT's pooler: a dense layer and tanh (DistilBERT: relu) on the first token of a segment."""

    config: ModelConfig

    @nn.compact
    def __call__(self, first: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
        c = self.config
        act = {"tanh": jnp.tanh, "relu": jax.nn.relu}[c.pooler_activation]
        return act(dense(c, "dense", c.width, ("embed", "embed"), bias=True)(first))

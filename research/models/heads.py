"""Heads: small modules on the backbone's hidden states.

Axes: B rows, N places (positions or segments), D width, V rows of the embedding table, C classes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models.attention import MASKED
from research.models.config import ModelConfig
from research.models.layers import ACTIVATIONS, Params, dense, norm


class MaskedLM(nn.Module):
    """BERT's transform of the hidden states, and the bias [V] of its tied output table."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> tuple[Float[Array, "B N D"], Array]:
        c = self.config
        x = dense(c, "transform", c.width, ("embed", "embed"))(x)
        x = norm(c, "norm")(ACTIVATIONS[c.activation](x))
        init = nn.with_logical_partitioning(nn.initializers.zeros, ("vocab",))
        return x, self.param("bias", init, (c.padded_vocab,))


class OutputTable(nn.Module):
    """Output table [V, D] of a family that does not tie its embeddings."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array) -> Float[Array, "V D"]:
        c = self.config
        init = nn.initializers.normal(c.initializer_range)
        axes = nn.with_logical_partitioning(init, ("vocab", "embed"))
        return self.param("table", axes, (c.padded_vocab, c.width))


class Classifier(nn.Module):
    """A linear layer to `classes` float32 logits; ModernBERT puts a transform before it."""

    config: ModelConfig
    classes: int
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N C"]:
        c = self.config
        if c.head_transform:
            x = dense(c, "transform", c.width, ("embed", "embed"))(x)
            x = norm(c, "norm")(ACTIVATIONS[c.activation](x))
        logits = dense(c, "output", self.classes, ("embed", "classes"), bias=self.bias)(x)
        return logits.astype(jnp.float32)


def output_table(params: Params, config: ModelConfig, head: str) -> Float[Array, "V D"]:
    """The table that turns features into logits: the embedding if tied, else the head's."""
    if config.tied_embeddings:
        return params["backbone"]["embedding"]["word"]
    return params["heads"][head]["table"]


def vocabulary_logits(
    features: Float[Array, "B N D"],
    table: Float[Array, "V D"],
    bias: Float[Array, " V"] | None,
    vocab_size: int,
) -> Float[Array, "B N V"]:
    """Logits in float32; padding rows of the table are masked, so they are never predicted."""
    logits = jnp.einsum(
        "bnd,vd->bnv", features, table.astype(features.dtype), preferred_element_type=jnp.float32
    )
    if bias is not None:
        logits = logits + bias
    real = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 2) < vocab_size
    return jnp.where(real, logits, MASKED)

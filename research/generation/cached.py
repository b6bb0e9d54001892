"""Logits of the next token while decoding, from a key/value cache.

Axes: B rows, P positions of the longest prompt, D width, V rows of the embedding table.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from research.models import heads, transformer
from research.models.config import ModelConfig
from research.objectives import causal_lm

Params = dict[str, Any]


def prefill(
    params: Params, model: ModelConfig, batch: dict[str, Array], length: int
) -> tuple[Float[Array, "B V"], transformer.Cache]:
    """Logits of the token after each prompt, and a cache of `length` positions with the prompts.

    Args:
        batch: the arrays of `batches.pad`, of which it reads tokens [B, P], lengths [B] and, if
            present, prefix [B], the number of tokens that the whole prompt sees.
    """
    tokens = batch["tokens"]
    rows, width = tokens.shape
    cache = transformer.empty_cache(model, rows, length)
    at = jnp.broadcast_to(jnp.arange(width), tokens.shape)
    prefix = batch["prefix"] if "prefix" in batch else None
    hidden, cache = transformer.apply_cached(
        params["backbone"], model, tokens, at, cache, width, prefix
    )
    last = transformer.gather(hidden, batch["lengths"][:, None] - 1)
    return _logits(params, model, last), cache


def step(
    params: Params,
    model: ModelConfig,
    token: Int[Array, " B"],
    position: Int[Array, " B"],
    cache: transformer.Cache,
) -> tuple[Float[Array, "B V"], transformer.Cache]:
    """Logits of the token after `token`, which is at `position`, and the cache with `token`."""
    length = cache.keys.shape[3]
    hidden, cache = transformer.apply_cached(
        params["backbone"], model, token[:, None], position[:, None], cache, visible=length
    )
    return _logits(params, model, hidden), cache


def _logits(params: Params, model: ModelConfig, hidden: Float[Array, "B 1 D"]) -> Array:
    table = heads.output_table(params, model, causal_lm.NAME)
    return heads.vocabulary_logits(hidden, table, None, model.vocab_size)[:, 0]

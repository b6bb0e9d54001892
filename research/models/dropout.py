"""Dropout by row, and every number that a row's key is folded with.

The numbers are one namespace for the whole step, so that no two places draw the same.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.models import lora
from research.models.config import ModelConfig

EMBEDDINGS = 0
HEAD = 1 << 20
ADAPTERS = 1 << 21


class Place(enum.IntEnum):
    """Where in a block; from ADAPTER on one place for each layer that has an adapter."""

    ATTENTION_OUTPUT = 0
    MLP_OUTPUT = 1
    ATTENTION_WEIGHTS = 2
    ADAPTER = 3


class Dropout(NamedTuple):
    """Dropout in the block `index`, with one key for each row; off without keys."""

    config: ModelConfig
    row_keys: Array | None = None
    index: int | Array = 0

    def keys(self, place: int) -> Array | None:
        """The keys of the rows for a place."""
        if self.row_keys is None:
            return None
        if place >= Place.ADAPTER:
            number = ADAPTERS + len(lora.LAYERS) * self.index + place - Place.ADAPTER
        else:
            number = Place.ADAPTER * self.index + place + 1
        return keys(self.row_keys, number)

    def __call__(self, x: Float[Array, "B ..."], place: int) -> Float[Array, "B ..."]:
        rate = self.config.lora_dropout if place >= Place.ADAPTER else self.config.dropout
        return rows(x, rate, self.keys(place))


def keys(row_keys: Array, number: int | Array) -> Array:
    """The key of each row for a place."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(row_keys)


def rows(x: Float[Array, "B ..."], rate: float, keys: Array | None) -> Float[Array, "B ..."]:
    """Inverted dropout with one key for each row (none: no dropout).

    Keys by row make the drawn mask independent of micro-batches and of the mesh.
    """
    if keys is None or rate == 0.0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))

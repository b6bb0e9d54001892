"""Dropout with one key per row, and the numbers that are folded into a row's key.

The numbers are one namespace for the whole step, so that no two places share a mask.
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
    """Place of a dropout in a block; from ADAPTER on, one for each linear layer's adapter."""

    ATTENTION_OUTPUT = 0
    MLP_OUTPUT = 1
    ATTENTION_WEIGHTS = 2
    ADAPTER = 3


class Dropout(NamedTuple):
    """Dropout in block `index` with one key per row; without keys, dropout is off."""

    config: ModelConfig
    row_keys: Array | None = None
    index: int | Array = 0

    def keys(self, place: int) -> Array | None:
        """Returns the rows' keys for a place in this block; None: dropout is off."""
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
    """Folds a place's number into the key of each row."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(row_keys)


def rows(x: Float[Array, "B ..."], rate: float, keys: Array | None) -> Float[Array, "B ..."]:
    """Inverted dropout with one key per row (keys=None: no dropout).

    Keys per row make the mask independent of micro-batches and of the mesh.
    """
    if keys is None or rate == 0.0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))

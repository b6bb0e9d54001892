"""The parameter tree of a model with heads: initialisation, paths and counts.

`params = {"backbone": {...}, "heads": {name: {...}}}`; a head without parameters has no entry.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import LogicallyPartitioned

from research.models import transformer
from research.models.config import ModelConfig

Params = dict[str, Any]
STACKED = "backbone/layers/"  # what `stack_of` returns for the layers of the backbone


def _is_box(x: Any) -> bool:
    return isinstance(x, LogicallyPartitioned)


def init_boxed(key: jax.Array, config: ModelConfig, heads: dict[str, nn.Module]) -> Params:
    """New params, boxed with their logical axes. A head's key depends on its name alone."""
    hidden = jnp.zeros((1, 1, config.width), config.dtype)
    head_params = {}
    for name, head in sorted(heads.items()):
        head_key = jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
        params = head.init(head_key, hidden)
        if params:
            head_params[name] = params["params"]
    return {"backbone": transformer.init(jax.random.fold_in(key, 0), config), "heads": head_params}


def init(key: jax.Array, config: ModelConfig, heads: dict[str, nn.Module]) -> Params:
    """New params as plain nested dicts of arrays (float32)."""
    return jax.tree.map(lambda box: box.value, init_boxed(key, config, heads), is_leaf=_is_box)


def logical_axes(config: ModelConfig, heads: dict[str, nn.Module]) -> Params:
    """The tree of `init` with a tuple of logical axis names at each leaf; allocates nothing."""
    boxed = jax.eval_shape(lambda: init_boxed(jax.random.key(0), config, heads))
    return jax.tree.map(lambda box: box.names, boxed, is_leaf=_is_box)


def shapes(config: ModelConfig, heads: dict[str, nn.Module]) -> Params:
    """The tree of `init` with a ShapeDtypeStruct at each leaf; allocates nothing."""
    return jax.eval_shape(lambda: init(jax.random.key(0), config, heads))


def by_path(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Path ("backbone/layers/mlp/up/kernel") -> leaf, in the tree's order."""
    pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
    leaves = {_path(keys): leaf for keys, leaf in pairs}
    if len(leaves) != len(pairs):
        raise ValueError(f"two leaves share a path (a name with a slash?) among {list(leaves)}")
    return leaves


def map_by_path(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Maps function(path, leaf, *leaves of the others at that path) over a tree."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, *leaves: function(_path(keys), *leaves), tree, *others
    )


def _path(keys: tuple) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def stack_of(path: str) -> str:
    """The prefix of a stacked leaf's path, "backbone/layers/"; "" for a leaf that is not stacked. A
    second backbone in the tree, such as a generator, has "generator/layers/"."""
    name, _, rest = path.partition("/")
    return f"{name}/layers/" if rest.startswith("layers/") else ""


def count(tree: Params, config: ModelConfig) -> int:
    """Number of parameters, without the rows that pad the vocabulary."""
    total = 0
    for path, leaf in by_path(tree).items():
        size = math.prod(leaf.shape)
        if path.endswith(("embedding/word", "masked_lm/bias", "causal_lm/table")):
            size = size // config.padded_vocab * config.vocab_size
        total += size
    return total

"""Where the arrays of a checkpoint are not those that are wanted, line by line."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from etils import epath

from research.checkpoints.folder import MAX_LINES, About
from research.errors import UserError

Json = dict[str, Any]


def lines(
    wanted: Mapping[str, Any],
    stored: Mapping[str, Json],
    within: Mapping[str, Json],
    same_dtype: bool,
) -> list[str]:
    """A line for each wanted array that is not `stored` like that, or `within` and not wanted."""
    found = []
    for name, leaf in wanted.items():
        expected = _written(leaf.shape, leaf.dtype)
        if name not in stored:
            found.append(f"{name}: expected {expected}, found nothing")
            continue
        shape, dtype = tuple(stored[name]["shape"]), jnp.dtype(stored[name]["dtype"])
        floats = jnp.issubdtype(dtype, jnp.floating) and jnp.issubdtype(leaf.dtype, jnp.floating)
        alike = dtype == leaf.dtype or (floats and not same_dtype)
        if shape != tuple(leaf.shape) or not alike:
            found.append(f"{name}: expected {expected}, found {_written(shape, dtype)}")
    for name in within.keys() - wanted.keys():
        there = _written(within[name]["shape"], within[name]["dtype"])
        found.append(f"{name}: expected nothing, found {there}")
    return sorted(found)


def require_none(found: list[str], folder: epath.Path, about: About) -> None:
    """Raises UserError with the first of these lines, if there are any."""
    if not found:
        return
    modules = sorted({module(name) for name in about.arrays["params"]})
    more = len(found) - MAX_LINES
    shown = [f"  {line}" for line in found[:MAX_LINES]] + (
        [f"  … and {more} more"] if more > 0 else []
    )
    head = f"the checkpoint {folder} (with {', '.join(modules)}) is of another model:"
    raise UserError("\n".join([head, *shown]))


def _written(shape: Any, dtype: Any) -> str:
    return f"{jnp.dtype(dtype).name}[{', '.join(str(size) for size in shape)}]"


def module(name: str) -> str:
    """The module that a parameter belongs to: "backbone", "heads/masked_lm"."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "heads" else parts[0]

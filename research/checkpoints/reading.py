"""Reads a step: its texts and its arrays, or an error with a line for each array that differs.

In a run of several processes, every process makes the same calls.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from etils import epath

from research.checkpoints import arrays
from research.checkpoints.folder import MAX_LINES, Info, first_good, locate, read_about
from research.errors import UserError, at_most
from research.models.params import by_path
from research.sharding import processes

Tree = Any  # nested dicts, or what optax makes, of arrays or ShapeDtypeStructs


def read_info(path: str) -> Info:
    """Reads the texts of the newest step whose texts are undamaged, or of the step that `path`
    names; reads no arrays.

    path: a workdir, its checkpoints folder, or the folder of one step.

    Raises UserError if there is no checkpoint, or only a damaged one.
    """
    info = first_good(*locate(path), read_about)[0]
    processes.same("the step of a checkpoint", {path: info.step}, "all must read the same folder")
    return info


def restore_params(path: str, wanted: Tree) -> tuple[Info, Tree]:
    """Loads some of the params of the newest good step, or of the step that `path` names.

    `wanted` must have all stored parameters of "backbone", and of every head that it has. Other
    parameters are not read.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        wanted: a tree of `jax.ShapeDtypeStruct` with shardings, part of the params
            ({"backbone": …}, {"backbone": …, "heads": {name: …}}). If its floating dtype differs
            from the stored one, arrays are cast after the checksum.

    Returns:
        The step's `Info`, and the arrays in the structure of `wanted`.

    Raises:
        UserError: no checkpoint, a damaged one, or parameters that are missing, left over or of
            another shape, each named; before anything is allocated.
    """
    info, trees = first_good(
        *locate(path), lambda folder: load(folder, {"params": wanted}, whole=False)
    )[0]
    return info, trees["params"]


def load(
    folder: epath.Path, wanted: Mapping[str, Tree], whole: bool
) -> tuple[Info, dict[str, Tree]]:
    """Loads the arrays of a step by item, in the structure of `wanted`.

    whole: `wanted` must have all arrays of each item, in their stored dtypes; else all arrays of
        each module that it has.

    Raises UserError if the arrays differ from `wanted`, before anything is allocated.
    """
    info = read_about(folder)
    for item, tree in wanted.items():
        leaves, stored = by_path(tree), info.arrays[item]
        if leaves and not stored:
            raise UserError(
                f"the checkpoint {folder} holds no {item}: a run can start from it, but not resume "
                "it"
            )
        modules = {_module(path) for path in leaves}
        within = {path for path in stored if whole or _module(path) in modules}
        if lines := _mismatches(leaves, stored, within, same_dtype=whole):
            known = ", ".join(sorted({_module(path) for path in info.arrays["params"]}))
            head = f"the checkpoint {folder} (with {known}) is of another model:"
            raise UserError("\n  ".join([head, *at_most(lines, MAX_LINES)]))
    return info, {
        item: arrays.load(folder / item, info.arrays[item], tree) for item, tree in wanted.items()
    }


def _mismatches(
    wanted: Mapping[str, Any], stored: Mapping[str, Any], within: set[str], same_dtype: bool
) -> list[str]:
    """A line for each wanted array that differs from `stored`, and each in `within` not wanted."""

    def written(shape: Any, dtype: Any) -> str:
        return f"{jnp.dtype(dtype).name}[{', '.join(str(size) for size in shape)}]"

    def is_float(dtype: Any) -> bool:
        return jnp.issubdtype(dtype, jnp.floating)

    lines = []
    for path in sorted(wanted.keys() | within):
        expected, actual = "nothing", "nothing"
        if path in stored:
            shape, dtype = stored[path]["shape"], jnp.dtype(stored[path]["dtype"])
            actual = written(shape, dtype)
        if path in wanted:
            leaf = wanted[path]
            expected = written(leaf.shape, leaf.dtype)
            cast = path in stored and not same_dtype and is_float(dtype) and is_float(leaf.dtype)
            if cast and tuple(shape) == tuple(leaf.shape):
                continue
        if expected != actual:
            lines.append(f"{path}: expected {expected}, found {actual}")
    return lines


def _module(path: str) -> str:
    """The module that a parameter belongs to: "backbone", "heads/masked_lm"."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "heads" else parts[0]

"""A step is read: what it says about itself, and its arrays, or a line for each that does not fit.

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
    """What the newest step whose texts are whole, or the one that is named, says about itself; no
    array is read.

    path: a workdir, its checkpoints folder, or the folder of one step.

    Raises UserError where there is no checkpoint, or a damaged one.
    """
    info = first_good(*locate(path), read_about)[0]
    processes.same("the step of a checkpoint", {path: info.step}, "all must read the same folder")
    return info


def restore_params(path: str, wanted: Tree) -> tuple[Info, Tree]:
    """Loads some of the params of the newest good step, or of the one that is named; the rest is
    not read.

    Of "backbone", and of every head that is wanted, all stored parameters must be wanted.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        wanted: a tree of `jax.ShapeDtypeStruct` with shardings, part of the params
            ({"backbone": …}, {"backbone": …, "heads": {name: …}}). Another floating dtype than
            the stored one is cast to, after the checksum.

    Returns:
        What the step says about itself, and the arrays, in the structure of `wanted`.

    Raises:
        UserError: no checkpoint there, a damaged one, or parameters that are missing, left over
            or of another shape, each named; then nothing has been allocated.
    """
    info, trees = first_good(
        *locate(path), lambda folder: load(folder, {"params": wanted}, whole=False)
    )[0]
    return info, trees["params"]


def load(
    folder: epath.Path, wanted: Mapping[str, Tree], whole: bool
) -> tuple[Info, dict[str, Tree]]:
    """The arrays of a step by item, as `wanted` and in its structure.

    whole: all arrays of each item are wanted, in the dtypes that they have; else all those of each
        module.

    Raises UserError for what does not fit, before anything is allocated.
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
    """A line for each wanted array that is not `stored` like that, or `within` and not wanted."""

    def written(shape: Any, dtype: Any) -> str:
        return f"{jnp.dtype(dtype).name}[{', '.join(str(size) for size in shape)}]"

    def is_float(dtype: Any) -> bool:
        return jnp.issubdtype(dtype, jnp.floating)

    lines = []
    for path in sorted(wanted.keys() | within):
        ours, theirs = "nothing", "nothing"
        if path in stored:
            shape, dtype = stored[path]["shape"], jnp.dtype(stored[path]["dtype"])
            theirs = written(shape, dtype)
        if path in wanted:
            leaf = wanted[path]
            ours = written(leaf.shape, leaf.dtype)
            cast = path in stored and not same_dtype and is_float(dtype) and is_float(leaf.dtype)
            if cast and tuple(shape) == tuple(leaf.shape):
                continue
        if ours != theirs:
            lines.append(f"{path}: expected {ours}, found {theirs}")
    return lines


def _module(path: str) -> str:
    """The module that a parameter belongs to: "backbone", "heads/masked_lm"."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "heads" else parts[0]

"""What is read of a checkpoint, by others than its run: what it says about itself, and its params.

In a run of several processes, every process makes the same calls.
"""

import dataclasses
import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from research.checkpoints import arrays as checkpoint_arrays
from research.checkpoints import mismatch
from research.checkpoints.folder import About, first_good, locate, read_about
from research.checkpoints.integrity import named
from research.sharding import processes

Tree = Any  # nested dicts of arrays or ShapeDtypeStructs
Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Info:
    """What a checkpoint says about itself; shapes is the tree of its params, fingerprint changes
    when one of them does."""

    step: int
    config: Json
    tokenizer_json: str
    meta: Json
    shapes: Tree
    fingerprint: str


def read_info(path: str, step: int | None = None) -> Info:
    """What a checkpoint says about itself; no array is read.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        step: None for the newest whose texts are whole, or the one that `path` names.

    Raises:
        UserError: no checkpoint there, or a damaged one.
    """

    found = first_good(*locate(path, step), lambda folder: _info(folder, read_about(folder)))[0]
    processes.same("the step of a checkpoint", {path: found.step}, "all must read the same folder")
    return found


def _info(folder: epath.Path, about: About) -> Info:
    shapes = {
        name: jax.ShapeDtypeStruct(tuple(entry["shape"]), jnp.dtype(entry["dtype"]))
        for name, entry in about.arrays["params"].items()
    }
    entries = json.dumps(about.arrays["params"], sort_keys=True)  # with their checksums
    return Info(
        step=int(folder.name),
        config=about.config,
        tokenizer_json=about.tokenizer_json,
        meta=about.meta,
        shapes=checkpoint_arrays.nest(shapes),
        fingerprint=hashlib.sha256(entries.encode()).hexdigest()[:16],
    )


def restore_params(path: str, wanted: Tree, step: int | None = None) -> tuple[Info, Tree]:
    """Loads some of the params of the newest good step, or of the given one; the rest is not read.

    Of "backbone", and of every head that is wanted, all stored parameters must be wanted.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        wanted: a tree of `jax.ShapeDtypeStruct` with shardings, part of the params
            ({"backbone": …}, {"backbone": …, "heads": {name: …}}). Another floating dtype than
            the stored one is cast to, after the checksum.
        step: as in `read_info`, whose step is passed over here where an array of it is damaged.

    Returns:
        What the step says about itself, and the arrays, in the structure of `wanted`.

    Raises:
        UserError: no checkpoint there, a damaged one, or parameters that are missing, left over
            or of another shape, each named; then nothing has been allocated.
    """

    def load(folder: epath.Path) -> tuple[Info, Tree]:
        about = read_about(folder)
        leaves, stored = named(wanted), about.arrays["params"]
        modules = {mismatch.module(name) for name in leaves}
        within = {name: entry for name, entry in stored.items() if mismatch.module(name) in modules}
        odd = mismatch.lines(leaves, stored, within, same_dtype=False)
        mismatch.require_none(odd, folder, about)
        arrays = checkpoint_arrays.load(folder / "params", stored, wanted)
        return _info(folder, about), arrays

    return first_good(*locate(path, step), load)[0]

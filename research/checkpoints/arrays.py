"""Reads the arrays of a checkpoint through Orbax, and checks that they are what was saved."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import tensorstore
from etils import epath
from flax.traverse_util import unflatten_dict

from research import bucket
from research.checkpoints import integrity
from research.checkpoints.folder import DamagedError, first_line, read_by_all, texts_in
from research.errors import UserError, differing
from research.models.params import by_path, map_by_path

Tree = Any  # nested dicts of arrays or ShapeDtypeStructs
Json = dict[str, Any]

# One piece at a time: a check may be slow, but must not disturb the training.
CONTEXT = {
    "cache_pool": {"total_bytes_limit": 0},
    "data_copy_concurrency": {"limit": 1},
    "file_io_concurrency": {"limit": 1},
}


def load(folder: epath.Path, stored: Mapping[str, Json], wanted: Tree) -> Tree:
    """Reads the wanted arrays in their stored dtypes, compares checksums, then casts."""
    leaves = by_path(wanted)
    if not leaves:
        return wanted
    alone = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    args = {
        path: ocp.ArrayRestoreArgs(
            sharding=leaf.sharding or alone,
            global_shape=tuple(leaf.shape),
            dtype=jnp.dtype(stored[path]["dtype"]),
        )
        for path, leaf in leaves.items()
    }
    item, restore_args = unflatten_dict(leaves, sep="/"), unflatten_dict(args, sep="/")
    request = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)

    def read() -> dict[str, jax.Array]:
        loaded = by_path(ocp.PyTreeCheckpointHandler().restore(folder, args=request))
        # For an array that it does not find, Orbax returns the requested leaf.
        absent = [path for path in leaves if not isinstance(loaded[path], jax.Array)]
        if absent:
            raise ValueError(f"_METADATA lacks {absent[0]}")
        return loaded

    def cast(path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        array = loaded[path]
        if array.dtype == leaf.dtype:
            return array
        return jax.jit(lambda x: x.astype(leaf.dtype), out_shardings=array.sharding)(array)

    loaded = read_by_all(folder.name, read)
    sums = {path: stored[path]["checksum"] for path in leaves}
    if wrong := differing(sums, integrity.checksums(loaded)):
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DamagedError(f"{folder.name}: {wrong[0]}{more} does not match its checksum")
    return map_by_path(cast, wanted)


def describe(leaves: Mapping[str, jax.Array]) -> dict[str, Json]:
    sums = integrity.checksums(leaves)
    return {
        name: {
            "shape": list(leaf.shape),
            "dtype": jnp.dtype(leaf.dtype).name,
            "checksum": sums[name],
        }
        for name, leaf in leaves.items()
    }


def damage(
    folder: epath.Path, part: int = 0, parts: int = 1, enough: Callable[[], bool] = lambda: False
) -> str:
    """Reads the texts and arrays of a step and says what is wrong; "" if nothing is.

    Args:
        part, parts: only read every `parts`-th array, starting at `part`.
        enough: called after each array; True stops the check.
    """
    try:
        about = texts_in(folder)
    except (OSError, ValueError) as error:
        return f"about: {first_line(error)}"
    except UserError as error:
        return str(error)
    for item, stored in about.arrays.items():
        own = {name: stored[name] for name in list(stored)[part::parts]}
        for wrong in read_back(folder / item, own):
            if wrong:
                return wrong
            if enough():
                return ""
    return ""


def read_back(folder: epath.Path, stored: Mapping[str, Json]) -> Iterator[str]:
    """Reads each array of an item's folder, a piece at a time, and yields what is wrong with it, or
    "" if nothing is.

    It puts nothing on a device and waits for no other process, so a thread can run it.
    """
    base = str(folder) if bucket.is_remote(folder) else f"file://{folder}"
    context = tensorstore.Context(CONTEXT)
    for name, entry in stored.items():
        kvstore = {"driver": "ocdbt", "base": f"{base}/", "path": f"{name.replace('/', '.')}/"}
        try:
            array = tensorstore.open(
                {"driver": "zarr", "kvstore": kvstore}, context=context, open=True, read=True
            ).result()
            if list(array.shape) != entry["shape"]:
                raise ValueError(f"its shape is {list(array.shape)}, not {entry['shape']}")
            places = integrity.places(array.shape, array.chunk_layout.read_chunk.shape or ())
            pieces = ((place, array[place].read().result()) for place in places)
            same = integrity.checksum_of_pieces(pieces, array.shape) == entry["checksum"]
            yield "" if same else f"{folder.name}: {name} does not match its checksum"
        except (OSError, ValueError, RuntimeError) as error:
            yield f"{folder.name}: {name}: {first_line(error)}"

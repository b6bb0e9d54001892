"""Checkpoints of a run, and everything that is to be known about Orbax.

Orbax writes into a temporary folder and renames it when all is there. What it does not do is
done here: it restores flipped bytes without a word, and takes any folder with a number for a
step. So every restore compares checksums, and a step that is damaged is passed over for the next
older one, with a line that says why. `checkpoint_folder` says what lies where.

In a run of several processes, every process makes the same calls.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from research.errors import UserError
from research.sharding import processes
from research.training import integrity, mismatch
from research.training.checkpoint_folder import (
    DamagedError,
    TextSave,
    absolute,
    agreed,
    first_good,
    locate,
    read_about,
    read_by_all,
    steps_in,
    texts_of,
    write_meta,
)
from research.training.integrity import named

Tree = Any  # nested dicts, or what optax makes, of arrays or ShapeDtypeStructs
Json = dict[str, Any]

# Orbax logs its inner life through absl; what matters of it reaches us as exceptions.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

# What is on several devices is cut, so that each writes a part: a program is compiled for each
# part of each shape, which takes longer than writing a small array whole.
PART_BYTES = 1 << 20
ocp.type_handlers.register_type_handler(
    jax.Array,
    ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=PART_BYTES),
    override=True,
)


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


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored step; opt_state is None where the target has none."""

    step: int
    params: Tree
    opt_state: Tree
    meta: Json
    tokenizer_json: str
    config: Json


class Checkpoints:
    """The checkpoints of one run, in one folder, written in the background.

    Use as a context manager, or call `close`: leaving waits for the last save.
    """

    def __init__(self, directory: str, keep: int | None = 2, read_only: bool = False):
        """Opens `directory`, making it if needed and clearing what a killed save left there.

        keep: how many of the newest steps stay (None: all), beside the step `best`, if it is set.
        read_only: nothing is changed.
        """
        self.best: int | None = None
        self.directory = absolute(directory)
        self._saved: int | None = None
        self._manager = None
        if not read_only:
            options = ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                    [checkpoint_managers.LatestN(n=keep), _TheBest(self)]
                ),
                cleanup_tmp_directories=True,
            )
            with self._writing():
                self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def latest(self) -> int | None:
        """The newest step that stands in the folder, good or not; None if there is none."""
        return max(steps_in(self.directory), default=None)

    def save(
        self,
        step: int,
        params: Tree,
        opt_state: Tree,
        meta: Json,
        tokenizer_json: str,
        config: Json,
    ) -> bool:
        """Starts to save; the arrays may be donated as soon as it returns.

        Waits for the save before, if that still runs. Returns False, and does nothing, when this
        object has just saved or restored the same step. opt_state may be None.

        Raises:
            UserError: the folder holds this step, or a later one, of another run; or it cannot be
                written to.
        """
        if self._manager is None:
            raise ValueError(f"{self.directory} was opened read-only")
        if step == self._saved:
            return False
        self.wait()
        latest = self.latest()
        if latest is not None and latest >= step:
            raise UserError(
                f"cannot save step {step}: {self.directory} already holds step {latest}; resume "
                "from it, or use another workdir"
            )
        trees = {"params": named(params), "opt_state": named(opt_state)}
        arrays = {item: _describe(leaves) for item, leaves in trees.items()}
        about = TextSave(texts_of(config, tokenizer_json, meta, arrays))
        items = {k: ocp.args.PyTreeSave(_nest(leaves)) for k, leaves in trees.items() if leaves}
        args = ocp.args.Composite(about=about, **items)
        with self._writing():
            self._manager.save(step, args=args, force=True)
        self._saved = step
        return True

    def amend(self, step: int, meta: Json) -> None:
        """Changes what a saved step says beside its arrays, `meta`; a kill leaves the old or the
        new text."""
        self.wait()
        if jax.process_index() == 0:
            with self._writing():
                write_meta(self.directory / str(step), meta)
        agreed(True)

    def wait(self) -> None:
        """Returns when everything is on disk. Raises what went wrong in the background."""
        if self._manager is not None:
            with self._writing():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees the threads."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            with self._writing():
                manager.close()

    def restore(self, step: int | None, target: Mapping[str, Tree]) -> Restored:
        """Restores the newest good step, or the given one.

        Steps newer than the one restored are damaged then; unless read-only they are renamed to
        "STEP.damaged", so that the run can save them again.

        Args:
            step: None for the newest good one.
            target: {"params": tree, "opt_state": tree}, of `jax.ShapeDtypeStruct` with sharding;
                without "opt_state" the optimizer's state is not read.

        Raises:
            UserError: no checkpoint, none that is good, a given step that is damaged, or arrays
                of other paths, shapes or dtypes than the target's.
        """
        self.wait()

        def load(folder: epath.Path) -> Restored:
            about = read_about(folder)
            for item, tree in target.items():
                stored = about.arrays[item]
                if not stored and named(tree):
                    raise UserError(
                        f"the checkpoint {folder} holds no {item}: a run can start from it, but "
                        "not resume it"
                    )
                odd = mismatch.lines(named(tree), stored, stored, same_dtype=True)
                mismatch.require_none(odd, folder, about)
            trees: dict[str, Tree] = {"opt_state": None}
            for item, tree in target.items():
                trees[item] = _load(folder / item, about.arrays[item], tree)
            return Restored(
                int(folder.name),
                **trees,
                meta=about.meta,
                tokenizer_json=about.tokenizer_json,
                config=about.config,
            )

        found, damaged = first_good(self.directory, step, load)
        if self._manager is not None:
            self._set_aside(damaged)
            self._saved = found.step
        return found

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            # TensorStore reports a full or forbidden disk as a ValueError, whose first line ends
            # in the system's words and code.
            words = str(error).split("\n")[0].rsplit(": ", 1)[-1]
            if isinstance(error, OSError) or "os_error_code" in words:
                raise UserError(f"cannot write to {self.directory}: {words}") from error
            raise

    def _set_aside(self, damaged: list[int]) -> None:
        for step in damaged:
            if jax.process_index() == 0:
                aside = self.directory / f"{step}.damaged"
                if aside.exists():
                    aside.rmtree()
                (self.directory / str(step)).rename(aside)
        if damaged:
            agreed(True)  # nobody lists the folder before the first process has renamed
            self._manager.reload()


@dataclasses.dataclass(frozen=True)
class _TheBest:
    """Orbax's policy that keeps the step `checkpoints.best`."""

    checkpoints: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        return [info.step == self.checkpoints.best for info in checkpoints]


def write_checkpoint(
    directory: str, step: int, params: Tree, config: Json, tokenizer_json: str, meta: Json
) -> None:
    """Writes DIRECTORY/STEP without optimizer state, to be shipped, and waits for it."""
    with Checkpoints(directory, keep=None) as checkpoints:
        checkpoints.save(step, params, None, meta, tokenizer_json, config)
    if jax.process_index() == 0:
        folder = checkpoints.directory / str(step)
        # Nothing reads these, and they name this machine's folders and devices.
        for item in ("", "about/", "params/"):
            (folder / f"{item}commit_success.txt").unlink(missing_ok=True)
        (folder / "params" / "_sharding").unlink(missing_ok=True)


def read_info(path: str, step: int | None = None) -> Info:
    """What a checkpoint says about itself; no array is read.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        step: None for the newest whose texts are whole, or the one that `path` names.

    Raises:
        UserError: no checkpoint there, or a damaged one.
    """

    def load(folder: epath.Path) -> Info:
        about = read_about(folder)
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
            shapes=_nest(shapes),
            fingerprint=hashlib.sha256(entries.encode()).hexdigest()[:16],
        )

    found = first_good(*locate(path, step), load)[0]
    processes.same("the step of a checkpoint", {path: found.step}, "all must read the same folder")
    return found


def restore_params(path: str, wanted: Tree, step: int | None = None) -> Tree:
    """Loads some of the params of a checkpoint; the rest is not read.

    Of "backbone", and of every head that is wanted, all stored parameters must be wanted.

    Args:
        path: a workdir, its checkpoints folder, or the folder of one step.
        wanted: a tree of `jax.ShapeDtypeStruct` with shardings, part of the params
            ({"backbone": …}, {"backbone": …, "heads": {name: …}}). Another floating dtype than
            the stored one is cast to, after the checksum.
        step: as in `read_info`; pass `Info.step` to be sure of the same one.

    Returns:
        The arrays, in the structure of `wanted`.

    Raises:
        UserError: no checkpoint there, a damaged one, or parameters that are missing, left over
            or of another shape, each named; then nothing has been allocated.
    """

    def load(folder: epath.Path) -> Tree:
        about = read_about(folder)
        leaves, stored = named(wanted), about.arrays["params"]
        modules = {mismatch.module(name) for name in leaves}
        within = {name: entry for name, entry in stored.items() if mismatch.module(name) in modules}
        odd = mismatch.lines(leaves, stored, within, same_dtype=False)
        mismatch.require_none(odd, folder, about)
        return _load(folder / "params", stored, wanted)

    return first_good(*locate(path, step), load)[0]


def _load(folder: epath.Path, stored: Mapping[str, Json], wanted: Tree) -> Tree:
    """Reads the wanted arrays as they were stored, compares checksums, then casts."""
    leaves = named(wanted)
    if not leaves:
        return wanted
    args = {name: _restore_args(leaf, stored[name]) for name, leaf in leaves.items()}
    request = ocp.args.PyTreeRestore(
        item=_nest(leaves), restore_args=_nest(args), partial_restore=True
    )

    def read() -> dict[str, jax.Array]:
        found = named(ocp.PyTreeCheckpointHandler().restore(folder, args=request))
        # What Orbax does not find it hands back as it was asked for.
        absent = [name for name in leaves if not isinstance(found[name], jax.Array)]
        if absent:
            raise ValueError(f"_METADATA lacks {absent[0]}")
        return found

    found = read_by_all(folder.name, read)
    expected = {name: stored[name]["checksum"] for name in leaves}
    wrong = integrity.compare(expected, integrity.checksums(found))
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DamagedError(f"{folder.name}: {wrong[0]}{more} does not match its checksum")
    cast = [_cast(found[name], leaf.dtype) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(wanted), cast)


def _restore_args(leaf: jax.ShapeDtypeStruct, entry: Json) -> ocp.ArrayRestoreArgs:
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return ocp.ArrayRestoreArgs(
        sharding=sharding, global_shape=tuple(leaf.shape), dtype=jnp.dtype(entry["dtype"])
    )


def _cast(array: jax.Array, dtype: np.dtype) -> jax.Array:
    if array.dtype == dtype:
        return array
    return jax.jit(lambda x: x.astype(dtype), out_shardings=array.sharding)(array)


def _describe(leaves: Mapping[str, jax.Array]) -> dict[str, Json]:
    sums = integrity.checksums(leaves)
    return {
        name: {
            "shape": list(leaf.shape),
            "dtype": jnp.dtype(leaf.dtype).name,
            "checksum": sums[name],
        }
        for name, leaf in leaves.items()
    }


def _nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """{"a/b": x} -> {"a": {"b": x}}. So a step's layout does not know of optax's classes."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree

"""The checkpoints of a run, on top of Orbax.

Orbax writes into a temporary folder and renames it when it is complete. But it restores flipped
bytes silently, and takes any folder with a number for a step. So every restore here compares
checksums, and skips a damaged step for the next older one, with a line that says why. `folder`
describes the layout of the folder.

In a run of several processes, every process makes the same calls.
"""

import contextlib
import errno
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict

from research import bucket
from research.checkpoints import arrays, reading
from research.checkpoints.folder import (
    Info,
    TextSave,
    absolute,
    agreed,
    first_good,
    quiet,
    rename,
    settle,
    steps_in,
    texts_of,
    write_meta,
)
from research.checkpoints.saving import PAUSES, Saving, not_written, warn
from research.errors import NotSavedError, UserError
from research.models.params import by_path

Tree = Any  # nested dicts, or what optax makes, of arrays or ShapeDtypeStructs
Json = dict[str, Any]

# Orbax logs its internals through absl; what matters arrives as exceptions.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

# Orbax cuts arrays that are on several devices, so that each device writes a part. It compiles a
# program for each part of each shape, which takes longer than writing a small array whole.
PART_BYTES = 1 << 20
ocp.type_handlers.register_type_handler(
    jax.Array,
    ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=PART_BYTES),
    override=True,
)


class Checkpoints:
    """The checkpoints of one run, in one folder, written in the background.

    Each step is read back, in the background too, before older steps are removed. If a save fails
    or leaves a damaged step, a warning is printed, and the next save comes sooner (`overdue`).

    Use as a context manager, or call `close`: leaving waits for the last save.
    """

    def __init__(self, directory: str, keep: int | None = 2, check: bool = True):
        """Opens `directory`, creates it if needed, and clears the remains of a killed save.

        keep: number of newest steps to keep (None: all), besides the step `best`, if it is set.
        check: whether steps are read back.
        """
        self.best: int | None = None
        self.directory = absolute(directory)
        self._keep, self._check = keep, check
        self._saved: int | None = None
        self._saving: Saving | None = None
        self._failures: list[str] = []  # reasons of the failed saves since the last good one
        self._again = 0.0  # when to save again after a failure
        self._manager = None
        bucket.require_writable(self.directory)
        self._open()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # the exception that is under way matters more
            with contextlib.suppress(NotSavedError):
                self.close(check=False)

    def latest(self) -> int | None:
        """The newest step in the folder, good or not; None if there is none."""
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

        Waits for the previous save, if that still runs. Returns False, and does nothing, if this
        object has just saved or restored the same step, or, with a warning, if nothing can be
        written. opt_state may be None.

        Raises UserError if the folder holds this step, or a later one, of another run.
        """
        if step == self._saved:
            return False
        self.wait()
        latest = self.latest()
        if latest is not None and latest >= step:
            raise UserError(
                f"cannot save step {step}: {self.directory} already holds step {latest}; resume "
                "from it, or use another workdir"
            )
        trees = {"params": by_path(params), "opt_state": by_path(opt_state)}
        described = {item: arrays.describe(leaves) for item, leaves in trees.items()}
        about = TextSave(texts_of(config, tokenizer_json, meta, described))
        items = {  # nested by path, so that a step's layout does not depend on optax's classes
            item: ocp.args.PyTreeSave(unflatten_dict(leaves, sep="/"))
            for item, leaves in trees.items()
            if leaves
        }
        args = ocp.args.Composite(about=about, **items)
        reason = ""
        try:
            if self._manager is None:
                self._open()
            try:
                self._manager.save(step, args=args, force=True)
            except OSError as error:
                # The failed save still wrote some parts while its folder was cleared.
                if not self._failures or error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                    raise
                self._open()
                self._manager.save(step, args=args, force=True)
        except Exception as error:
            reason = not_written(error)
            warn(step, reason)
        if not agreed(not reason):
            self._note(reason)
            return False
        self._saving = Saving(self._manager, self.directory / str(step), self._check)
        self._saved = step
        return True

    def amend(self, step: int, meta: Json) -> None:
        """Replaces the `meta` of a saved step; a kill meanwhile leaves the old or the new text."""
        self.wait()
        if jax.process_index() == 0:
            write_meta(self.directory / str(step), meta)
        agreed(True)

    def save_surely(
        self, step: int, *state: Any, check: bool = True, pauses: Sequence[float] = PAUSES
    ) -> None:
        """Saves as `save` does, and waits as `wait` does; retries a failure after each of the
        pauses, in seconds. Raises NotSavedError if the last try fails too."""
        for pause in (*pauses, None):
            self.save(step, *state)
            self.wait(check)
            if not self._failures:
                return
            if pause is not None:
                time.sleep(pause)
        raise self._not_saved(step)

    def overdue(self) -> bool:
        """Whether to save before the next save is due: the last save failed, and a pause that grows
        with every failure is over. Never in a run of several processes, which would have to agree
        on it."""
        if jax.process_count() > 1:
            return False
        if self._saving is not None and self._saving.failed():
            self.wait()
        return bool(self._failures) and time.monotonic() >= self._again

    def wait(self, check: bool = True) -> None:
        """Waits until the last save is on disk and, unless check is False, read back. Then removes
        older steps."""
        saving, self._saving = self._saving, None
        if saving is None:
            return
        saving.finish(check)
        if not agreed(not saving.reason):
            self._note(saving.reason)
        elif not agreed(not saving.damage):
            self._set_aside([int(saving.folder.name)])
            self._note(saving.damage)
        else:
            self._failures.clear()
            if check and self._keep:
                for step in sorted(self._manager.all_steps())[: -self._keep]:
                    if step != self.best:
                        self._manager.delete(step)

    def close(self, check: bool = True) -> None:
        """Waits as `wait` does, and frees the threads. Raises NotSavedError if the last save
        failed."""
        self.wait(check)
        if self._manager is not None:
            manager, self._manager = self._manager, None
            manager.close()
        if self._failures:
            raise self._not_saved(None)

    def _open(self) -> None:
        """Opens a new manager, which clears the remains of a failed save and lists the steps anew:
        a manager whose save has failed forgets some of them."""
        manager, self._manager = self._manager, None
        with quiet():
            for end in (manager.wait_until_finished, manager.close) if manager else ():
                with contextlib.suppress(Exception):  # the failure is known already
                    end()
            settle()
        options = ocp.CheckpointManagerOptions(cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def _note(self, reason: str) -> None:
        """Notes a failed save, and clears its remains to make room."""
        self._saved = None
        self._again = time.monotonic() + PAUSES[min(len(self._failures), len(PAUSES) - 1)]
        self._failures.append(reason or "another process could not write")
        with contextlib.suppress(OSError):  # the next save tries again
            self._open()

    def _not_saved(self, step: int | None) -> NotSavedError:
        latest = self.latest()
        next_start = "starts anew" if latest is None else f"resumes from step {latest}"
        state = "the last state" if step is None else f"the state of step {step}"
        return NotSavedError(
            f"{state} could not be saved in {self.directory}: {self._failures[-1]}; the same "
            f"command {next_start}"
        )

    def restore(self, step: int | None, target: Mapping[str, Tree]) -> tuple[Info, dict[str, Tree]]:
        """Restores the newest good step, or `step`.

        Newer steps are then known to be damaged; they are renamed to "STEP.damaged", so that the
        run can save them again.

        Args:
            step: None for the newest good one.
            target: {"params": tree, "opt_state": tree}, of `jax.ShapeDtypeStruct` with sharding;
                without "opt_state" the optimizer's state is not read.

        Returns:
            The step's `Info`, and its arrays in the structure of `target`.

        Raises:
            UserError: no checkpoint, no good one, `step` is damaged, or the arrays differ from the
                target in paths, shapes or dtypes.
        """
        self.wait()
        (info, trees), damaged = first_good(
            self.directory, step, lambda folder: reading.load(folder, target, whole=True)
        )
        self._set_aside(damaged)
        self._saved = info.step
        return info, trees

    def _set_aside(self, damaged: list[int]) -> None:
        for step in damaged:
            if jax.process_index() == 0:
                rename(self.directory, step, "damaged")
        if damaged:
            agreed(True)  # no process lists the folder before process 0 has renamed
            self._manager.reload()


def write_checkpoint(
    directory: str, step: int, params: Tree, config: Json, tokenizer_json: str, meta: Json
) -> None:
    """Writes DIRECTORY/STEP without optimizer state, for shipping, and waits for it."""
    with Checkpoints(directory, keep=None) as checkpoints:
        checkpoints.save_surely(step, params, None, meta, tokenizer_json, config, pauses=())
    if jax.process_index() == 0:
        folder = checkpoints.directory / str(step)
        # Nothing reads these files, and they name this machine's folders and devices.
        for item in ("", "about/", "params/"):
            (folder / f"{item}commit_success.txt").unlink(missing_ok=True)
        (folder / "params" / "_sharding").unlink(missing_ok=True)

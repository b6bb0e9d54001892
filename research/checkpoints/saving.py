"""A save that is under way: Orbax writes it, then it is read back, both beside the steps."""

import contextlib
import os
import sys
import threading
import time
from typing import Any

import jax
from etils import epath

from research import bucket
from research.checkpoints.arrays import damage

# Seconds between a failed save and the next one: 8 minutes in all.
PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 160.0)
SECONDS_UNTIL_SEEN = 2.0  # by this machine, what another one has written into a shared folder


class Saving:
    """What became of a save, once `finish` has returned.

    reason: why the step is not on disk, damage: what differs of what is; empty where nothing is
    wrong. Either has been told on stderr by then.
    """

    def __init__(self, manager: Any, folder: epath.Path, check: bool):
        """
        manager: Orbax's, which has begun to write the step `folder`.
        check: whether it is read back.
        """
        self.folder, self.reason, self.damage = folder, "", ""
        self._manager, self._check = manager, check
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def failed(self) -> bool:
        """Whether it has ended, badly."""
        return not self._thread.is_alive() and bool(self.reason or self.damage or self._error)

    def finish(self, check: bool) -> None:
        """Returns when it is on disk and, unless check is False, read back. Raises what says
        nothing of the disk."""
        self._check = self._check and check
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        step = int(self.folder.name)
        try:
            try:
                self._manager.wait_until_finished()
                if not bucket.is_remote(self.folder):
                    bucket.flush(self.folder)
                    bucket.flush(self.folder.parent)
            except Exception as error:
                self.reason = not_written(error)
                warn(step, self.reason)
                return
            if self._check:
                _give_way()
                self.damage = self._found() and self._found()
                if self.damage:
                    warn(step, f"what is on disk is damaged ({self.damage})")
        except Exception as error:  # raised in `finish`
            self._error = error

    def _found(self) -> str:
        share = (jax.process_index(), jax.process_count())
        found = damage(self.folder, *share, enough=lambda: not self._check)
        if found:
            time.sleep(SECONDS_UNTIL_SEEN)
        return found


def not_written(error: Exception) -> str:
    """Why nothing could be written, in the system's words. Raises the error where it says nothing
    of that."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # TensorStore reports a full or forbidden disk as a ValueError, whose first line ends in the
    # system's words and code.
    words = str(error).split("\n")[0].rsplit(": ", 1)[-1]
    if "os_error_code" not in words:
        raise error
    return words.partition(" [")[0]


def warn(step: int, reason: str) -> None:
    print(
        f"warning: the checkpoint of step {step:,} is not saved: {reason}; the run goes on, and "
        "tries again",
        file=sys.stderr,
        flush=True,
    )


def _give_way() -> None:
    """The lowest priority for this thread, where the system gives threads one of their own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)

"""A save in progress: Orbax writes it, then it is read back, both while training goes on."""

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
SECONDS_UNTIL_SEEN = 2.0  # until this machine sees another one's files in a shared folder


class Saving:
    """A save in progress and, once `finish` has returned, its result.

    reason: why the step is not on disk; damage: how the step on disk differs; "" if nothing is
    wrong. A warning on stderr has reported either by then.
    """

    def __init__(self, manager: Any, folder: epath.Path, check: bool):
        """
        manager: Orbax's manager, which has started to write the step `folder`.
        check: whether the step is read back.
        """
        self.folder, self.reason, self.damage = folder, "", ""
        self._manager, self._check = manager, check
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def failed(self) -> bool:
        """Whether the save has ended and failed."""
        return not self._thread.is_alive() and bool(self.reason or self.damage or self._error)

    def finish(self, check: bool) -> None:
        """Waits until the step is on disk and, unless check is False, read back. Raises errors that
        are not about the disk."""
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
                self.damage = self._read_back() and self._read_back()
                if self.damage:
                    warn(step, f"what is on disk is damaged ({self.damage})")
        except Exception as error:  # raised in `finish`
            self._error = error

    def _read_back(self) -> str:
        share = (jax.process_index(), jax.process_count())
        wrong = damage(self.folder, *share, enough=lambda: not self._check)
        if wrong:
            time.sleep(SECONDS_UNTIL_SEEN)
        return wrong


def not_written(error: Exception) -> str:
    """Why nothing could be written, in the system's words. Raises the error again if it is not
    about writing."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # TensorStore reports a full or read-only disk as a ValueError whose first line ends with the
    # system's message and code.
    words = str(error).split("\n")[0].rsplit(": ", 1)[-1]
    if "os_error_code" not in words:
        raise error
    return words.partition(" [")[0]


def warn(step: int, reason: str) -> None:
    print(
        f"warning: the checkpoint of step {step:,} is not saved: {reason}; the run goes on and "
        "tries again",
        file=sys.stderr,
        flush=True,
    )


def _give_way() -> None:
    """Lowers this thread's priority to the minimum, on systems where threads have their own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)

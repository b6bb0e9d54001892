"""Runs a tiny training in a process of its own, which may kill itself.

    python -m tests.training.killed_run KILL_AT KIND FOLDER/WORKDIR [KIND FOLDER/WORKDIR ...]

Each WORKDIR is trained to the end (or resumed), one after the other, on the data that lies in
FOLDER, and the digest of every batch goes to WORKDIR/batches.txt. With KILL_AT > 0 the process
ends by SIGKILL when the batch of step KILL_AT is asked for, once the first checkpoint is on disk.
"""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np

from research.config import Config, from_values
from research.data.loader import Ahead
from research.training import loop
from tests import helpers
from tests.integration.conftest import TASKS, write_lines

STEPS, CHECKPOINT = 8, 3  # an epoch is two batches


def config(kind: str, folder: Path) -> Config:
    """The run that is killed: dropout and accumulation on, two devices, parameters sharded.

    Kinds are those of the helpers, and the tasks that the tests of the command line know.
    """
    changes = {"steps": STEPS, "checkpoint_every": CHECKPOINT, "log_every": 3, "eval_every": 2}
    family, rows, task = TASKS.get(kind, (kind, [], {}))
    values = helpers.run_values(family, folder, **changes)
    if task:
        del values["objective"]
        name = "files:" + write_lines(folder / "examples.jsonl", rows)
        values["data"] |= {"train": name, "validation": name}
        values["task"] = task
        values["train"]["batch_size"] = 2  # of three examples
    return from_values(values | {"mesh": {"data": 1, "fsdp": 2}})


def watched(workdir: Path, kill_at: int) -> type[Ahead]:
    """An `Ahead` that notes every batch of the training, or ends the process at one of them."""

    class Watched(Ahead):
        training = True  # the first one of a run; those of its evaluations follow

        def __init__(self, data, start, *rest):
            super().__init__(data, start, *rest)
            self.step = start if Watched.training else None
            Watched.training = False

        def __next__(self):
            if self.step is None:
                return super().__next__()
            self.step += 1
            if self.step == kill_at:
                while not (workdir / "checkpoints" / str(CHECKPOINT)).is_dir():
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            batch = super().__next__()
            digest = hashlib.sha256()
            for name, array in sorted(jax.device_get(batch).items()):
                digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
            with open(workdir / "batches.txt", "a") as file:
                file.write(f"{self.step} {digest.hexdigest()}\n")
            return batch

    return Watched


def main(kill_at: str, *runs: str) -> None:
    """See the module's text."""
    for kind, workdir in zip(runs[::2], map(Path, runs[1::2]), strict=True):
        loop.Ahead = watched(workdir, int(kill_at))
        loop.train(config(kind, workdir.parent), str(workdir), quiet=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

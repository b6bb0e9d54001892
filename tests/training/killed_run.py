"""Runs a tiny training in its own process, which may kill itself.

    python -m tests.training.killed_run MOMENT KIND FOLDER/WORKDIR [KIND FOLDER/WORKDIR ...]

Each WORKDIR is trained to the end (or resumed), one after the other, on the data that lies in
FOLDER, and the digest of every batch goes to WORKDIR/batches.txt. The process ends by SIGKILL at
MOMENT:

    never
    step N            when the batch of step N is asked for, once the first checkpoint is on disk
    batch N           when the N-th batch after the start is asked for
    evaluation N      in the midst of the N-th evaluation after the start
    save MILLISECONDS so long after the first save after the start has begun
"""

import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np

from research.checkpoints.checkpoint import Checkpoints
from research.config import Config, from_values
from research.data.loader import Ahead
from research.evaluation import evaluator
from research.training import loop
from tests import helpers
from tests.integration.conftest import TASKS, write_lines

# An epoch is two batches. A run that is killed many times is longer, and slow enough that saves end
# between its steps.
STEPS, CHECKPOINT = int(os.environ.get("KILLED_RUN_STEPS", "8")), 3
PAUSE = 0.1 if STEPS > 8 else 0.0


def config(kind: str, folder: Path, steps: int = STEPS) -> Config:
    """The run that is killed: dropout and accumulation on, two devices, parameters sharded.

    Kinds are those of the helpers, and the tasks that the tests of the command line know.
    """
    changes = {"steps": steps, "checkpoint_every": CHECKPOINT, "log_every": 3, "eval_every": 2}
    family, rows, task = TASKS.get(kind, (kind, [], {}))
    values = helpers.run_values(family, folder, **changes)
    if task:
        del values["objective"]
        name = "files:" + write_lines(folder / "examples.jsonl", rows)
        values["data"] |= {"train": name, "validation": name}
        values["task"] = task
        values["train"]["batch_size"] = 2  # of three examples
    return from_values(values | {"mesh": {"data": 1, "fsdp": 2}})


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watched(workdir: Path, moment: str, number: int) -> type[Ahead]:
    """An `Ahead` that notes every batch of the training, or ends the process at one of them."""

    class Watched(Ahead):
        def __init__(self, data, start, *rest):
            super().__init__(data, start, *rest)
            self.start = self.step = start

        def __next__(self):
            self.step += 1
            if (moment, number) == ("batch", self.step - self.start):
                die()
            if (moment, number) == ("step", self.step):
                while not (workdir / "checkpoints" / str(CHECKPOINT)).is_dir():
                    time.sleep(0.01)
                die()
            time.sleep(PAUSE)
            batch = super().__next__()
            digest = hashlib.sha256()
            for name, array in sorted(jax.device_get(batch).items()):
                digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
            with open(workdir / "batches.txt", "a") as file:
                file.write(f"{self.step} {digest.hexdigest()}\n")
            return batch

    return Watched


def deadly_evaluation(number: int) -> type[Ahead]:
    """An `Ahead` that ends the process when the evaluation of this number asks for a batch."""

    class Deadly(Ahead):
        evaluations = 0

        def __init__(self, *arguments):
            super().__init__(*arguments)
            Deadly.evaluations += 1

        def __next__(self):
            if Deadly.evaluations == number:
                die()
            return super().__next__()

    return Deadly


def deadly_save(milliseconds: int) -> type[Checkpoints]:
    """`Checkpoints` whose first save ends the process some time after the save has begun."""

    class Deadly(Checkpoints):
        def save(self, *arguments):
            threading.Timer(milliseconds / 1000, die).start()
            return super().save(*arguments)

    return Deadly


def main(moment: str, *runs: str) -> None:
    """See the module's text."""
    name, _, number = moment.partition(" ")
    if name == "evaluation":
        evaluator.Ahead = deadly_evaluation(int(number))
    if name == "save":
        loop.Checkpoints = deadly_save(int(number))
    for kind, workdir in zip(runs[::2], map(Path, runs[1::2]), strict=True):
        loop.Ahead = watched(workdir, name, int(number or 0))
        loop.train(config(kind, workdir.parent), str(workdir), quiet=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Half an hour of training, evaluating, saving and writing samples, with a kill every half minute:
equal to an undisturbed run, and memory and open files do not grow.

SOAK_MINUTES changes how long the undisturbed run is to take, about.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.checkpoints.folder import absolute, read_about, steps_in
from tests import helpers
from tests.integration.conftest import write_config

ROOT = Path(__file__).parents[2]
MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
FLAT = 1.03  # the last third of a run has at most so much more than the second one


def started(file: str, workdir: Path, compiled: Path) -> subprocess.Popen:
    """Starts a training in its own process, on one device."""
    env = os.environ | {"XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": str(compiled)}
    command = [sys.executable, "launch.py", "train", f"--config={file}", f"--workdir={workdir}"]
    with open(workdir.with_suffix(".log"), "a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)


def measured(process: subprocess.Popen) -> tuple[float, int] | None:
    """Returns (resident MiB, number of open files), or None for a process that has ended."""
    place = Path("/proc") / str(process.pid)
    try:
        status = (place / "status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(resident.split()[1]) / 1024, len(os.listdir(place / "fd"))
    except (OSError, StopIteration):
        return None


def thirds(values: list[float]) -> tuple[float, float]:
    """The medians of the second and of the last third."""
    cut = len(values) // 3
    return statistics.median(values[cut : 2 * cut]), statistics.median(values[2 * cut :])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_that_is_killed_every_half_minute_is_the_run_that_is_not(tmp_path):
    steps = int(MINUTES * 60 * 20)  # about fifty milliseconds each, with all that is between them
    values = helpers.run_values(
        "gpt", tmp_path, steps=steps, log_every=10, eval_every=100, checkpoint_every=50, samples=2
    )
    values["model"] |= {"width": 64, "layers": 4, "mlp_width": 256}
    file = write_config(tmp_path / "config.py", values)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    draw, kills, samples = random.Random(0), 0, []
    quiet = started(file, whole, tmp_path / "compiled")
    disturbed, until = started(file, killed, tmp_path / "compiled"), time.monotonic() + 30
    try:
        while quiet.poll() is None or disturbed.poll() != 0:
            time.sleep(1)
            samples += filter(None, [measured(quiet)])
            if disturbed.poll() is None and time.monotonic() > until:
                disturbed.kill()
                kills += 1
            if disturbed.poll() is not None and disturbed.wait() != 0:
                assert disturbed.returncode == -9, killed.with_suffix(".log").read_text()[-2000:]
                disturbed = started(file, killed, tmp_path / "compiled")
                until = time.monotonic() + draw.uniform(20, 40)
    finally:
        for process in (quiet, disturbed):
            process.kill()
            process.wait()
    assert quiet.returncode == 0, whole.with_suffix(".log").read_text()[-2000:]
    assert kills >= MINUTES

    ours, theirs = (
        read_about(absolute(str(folder / "checkpoints" / str(steps)))) for folder in (killed, whole)
    )
    assert ours.arrays == theirs.arrays and ours.meta == theirs.meta
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert steps_in(absolute(str(killed / "checkpoints")))[-1] == steps
    resident, files = (thirds(list(column)) for column in zip(*samples, strict=True))
    found = {"kills": kills, "steps": steps, "MiB": resident, "open files": files}
    print(json.dumps(found))
    assert resident[1] <= FLAT * resident[0], found
    assert files[1] <= FLAT * files[0] + 1, found

"""Real mpiruns: the processes that they start are one run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engines
ROOT = Path(__file__).parents[2]
FIND = "from research.sharding import processes as p; place = p.find(); p.join(place); print(place)"


@pytest.mark.parametrize(("major", "variable"), [("4", ""), ("5", "MPI_VENV")])
def test_processes_of_mpirun_find_each_other(major, variable):
    """Open MPI 4 is that of the system, 5 that of the environment that the variable names."""
    folder = str(ROOT / os.environ[variable] / "bin") if variable else ""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{folder}:{os.environ['PATH']}"}
    mpirun = shutil.which("mpirun", path=env["PATH"])
    version = subprocess.run([mpirun, "--version"], env=env, capture_output=True, text=True).stdout
    assert f" {major}." in version.splitlines()[0], f"{mpirun}: {version}"
    mpi = [mpirun, "--allow-run-as-root", "-n", "2"]
    done = subprocess.run(
        [*mpi, sys.executable, "-c", FIND], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[1:] == ["process 0/2", "process 1/2"]

"""What these tests run on is started by them, and ends with them; `make engines` installs it."""

import os
import signal
from pathlib import Path

import pytest

from tests.engines import slurm
from tests.lab.launchers.conftest import git, project  # noqa: F401  (fixtures)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="session")
def submitit_is_there():
    """On its first import it closes the handlers of logging, and absl's closes its stream with it
    where that is not the stderr of the moment, as while a test captures it."""
    import submitit  # noqa: F401


@pytest.fixture(autouse=True, scope="session")
def terminated_as_interrupted():
    """SIGTERM ends the tests like Ctrl-C, so that what was started ends too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """The environment of a Slurm of two nodes with four cores each."""
    if slurm.missing() or os.geteuid():
        pytest.fail(f"needs root and {', '.join(slurm.missing()) or 'no more'}: `make engines`")
    with slurm.started(tmp_path_factory.mktemp("slurm")) as env:
        yield env


@pytest.fixture
def on_cluster(cluster, project, monkeypatch):  # noqa: F811
    """The checkout of a small project, from which jobs are submitted to the cluster."""
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("XLA_FLAGS")  # one device for each process
    return project

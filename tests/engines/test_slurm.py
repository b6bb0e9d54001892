"""A real Slurm: requests that it refuses, or would let wait for ever."""

import pytest

from research import cli
from tests.engines.slurm import answer

pytestmark = pytest.mark.engines
TRAIN = ("train", "--config=configs/tiny.py")
JOB = ("--on=slurm", "--on.time=5", "--on.nodes=2")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--on.partition=nope", "invalid partition specified: nope"),
        ("--on.gpus_per_node=8", "Invalid generic resource"),
        ("--on.mem=999G", "Memory specification can not be satisfied"),
        ("--on.nodes=5", "wait for ever (Partition"),
        ("--on.time=600", "wait for ever (Partition"),
        ("--on.cpus_per_task=50", "wait for ever (Partition"),
    ],
)
def test_what_the_cluster_has_not_is_refused(on_cluster, cluster, capsys, options, said):
    assert cli.main([*TRAIN, "--workdir=runs/no", *JOB, options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and "main* 2 nodes, each 4 cores" in error
    assert not answer(cluster, "squeue", "--noheader")

"""A real Slurm: jobs of two nodes that are stopped and go on, and requests that it refuses."""

import json
import re
import time

import pytest

from research import cli
from research.checkpoints.folder import absolute, read_about
from tests.engines.slurm import answer
from tests.lab.launchers.conftest import wait_for

pytestmark = pytest.mark.engines
STEPS = 400
TRAIN = ("train", "--config=configs/tiny.py")
JOB = ("--on=slurm", "--on.time=5", "--on.nodes=2")


def submit(capsys, workdir: str) -> str:
    """The number of the job."""
    length = f"--config.train.steps={STEPS}"
    assert cli.main([*TRAIN, length, f"--workdir={workdir}", *JOB]) == 0
    return re.search(r"job (\d+):", capsys.readouterr().out).group(1)


def state(env: dict[str, str], job: str) -> str:
    return answer(env, "squeue", "--noheader", f"--jobs={job}", "--format=%T").strip()


def numbers(workdir) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


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


@pytest.mark.parametrize("notice", ["end of time", "preemption"])
def test_a_job_of_two_nodes_is_stopped_goes_on_and_ends_like_one_that_is_not(
    on_cluster, cluster, capsys, notice
):
    """What Slurm does at the end of a job's time and at a preemption, done at once."""
    whole, stopped = on_cluster / "runs/whole", on_cluster / "runs/stopped"
    job = submit(capsys, "runs/whole")
    wait_for(whole / "launch" / f"{job}_0_log.out", f"done: step {STEPS}")
    job = submit(capsys, "runs/stopped")
    log = stopped / "launch" / f"{job}_0_log.out"
    wait_for(log, rf"process 0/2, coordinator 127\.0\.0\.1:\d+(.|\n)*step \d+/{STEPS}")
    if notice == "end of time":
        answer(cluster, "scancel", "--signal=USR2", job)
        wait_for(log, f"Requeued job {job}")
    else:
        answer(cluster, "scontrol", "requeue", job)
        wait_for(log, r"stopped at step \d+")
    until = time.monotonic() + 60
    while state(cluster, job) != "PENDING":
        assert time.monotonic() < until, state(cluster, job)
        time.sleep(0.2)
    answer(cluster, "scontrol", "update", f"jobid={job}", "starttime=now")
    resumed = wait_for(log, rf"resuming \S+ at step (\d+)(.|\n)*done: step {STEPS}")
    assert 0 < int(resumed.group(1)) < STEPS
    assert numbers(stopped) == numbers(whole)
    ours, theirs = (
        read_about(absolute(str(folder / "checkpoints" / str(STEPS))))
        for folder in (stopped, whole)
    )
    assert ours.arrays and ours.arrays == theirs.arrays  # checksums, of the optimizer too

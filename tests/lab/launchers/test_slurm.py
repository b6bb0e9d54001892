"""Slurm: sbatch files, dependencies of jobs, and a job that runs out of time."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from research import cli
from research.lab.launchers import slurm
from research.lab.record import DONE
from research.lab.workers import runner
from research.monitoring import starts
from tests.lab.launchers.conftest import wait_for

ROOT = Path(__file__).parents[3]
TRAIN = ("train", "--config=configs/tiny.py", "--workdir=runs/tiny")
CLUSTER = ("--on=slurm", "--on.time=90", "--on.partition=gpu")
# Slurm with one node that is never busy. A job runs in the background, as its own process group.
SBATCH = """
import json, os, re, subprocess, sys
folder = os.environ["SLURM_FAKE"]
number = len(os.listdir(folder)) + 1
text = open(sys.argv[1]).read()
flags = dict(re.findall(r"#SBATCH --([a-z-]+)=(.*)", text))
json.dump({"flags": flags, "file": text}, open(f"{folder}/{number}", "w"))
if "SLURM_RUNS" in os.environ:
    environment = os.environ | {
        "SLURM_JOB_ID": str(number), "SLURM_PROCID": "0", "SLURM_NTASKS": "1",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_LOCALID": "0",
    }
    # The file moves once the number is known, so it is read now.
    subprocess.Popen(["bash", "-c", text], env=environment, start_new_session=True,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job", number)
"""
SRUN = """
import os, sys
open(os.environ["SLURM_FAKE"] + ".pid", "w").write(str(os.getpid()))
arguments = sys.argv[1:]
log = arguments[arguments.index("--output") + 1]
command = arguments[arguments.index("--output") + 2:]
out = log.replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
os.dup2(1, 2)
os.execv(command[0], command)
"""
SQUEUE = """
import os
print(os.environ.get("SLURM_QUEUED", ""))
"""


@pytest.fixture
def cluster(tmp_path, programs, monkeypatch):
    """A function: the jobs that were submitted, {"flags", "file"} each."""
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("squeue", SQUEUE)):
        programs(name, text)
    folder = tmp_path / "slurm"
    folder.mkdir()
    monkeypatch.setenv("SLURM_FAKE", str(folder))
    monkeypatch.delenv("XLA_FLAGS")

    def submitted():
        files = sorted(folder.iterdir(), key=lambda file: int(file.name))
        return [json.loads(file.read_text()) for file in files]

    return submitted


EXPERIMENT = """
from research.lab.experiment import Experiment, Run

RUNS = {
    "first": Run("configs/tiny.py"),
    "second": Run("configs/tiny.py", start="first", seeds=(0, 1)),
}


def get_experiment():
    return Experiment("made", RUNS)
"""


@pytest.fixture
def experiment(project, stub):
    (project / "configs" / "made.py").write_text(EXPERIMENT)
    subprocess.run(["git", "add", "--all"], cwd=project, check=True)
    stub("")
    return ("experiment", "--config=configs/made.py")


def test_the_dry_run_prints_the_sbatch_file(golden, capsys):
    given = ("--on.nodes=2", "--on.gpus_per_node=8", "--on.mem=64G", "--on.account=lab")
    assert cli.main([*TRAIN, *CLUSTER, *given, "--dry_run"]) == 0
    golden("slurm", capsys.readouterr().out)
    assert not Path("runs").exists()


def test_the_dry_run_of_an_experiment_prints_one_for_each_run(experiment, golden, capsys):
    assert cli.main([*experiment, *CLUSTER, "--dry_run"]) == 0
    golden("slurm_experiment", capsys.readouterr().out)


def test_a_run_waits_for_what_it_starts_from_and_the_table_for_all(experiment, cluster):
    assert cli.main([*experiment, *CLUSTER]) == 0
    jobs = [found["flags"] for found in cluster()]
    assert [j["job-name"] for j in jobs] == [
        "first-seed0",
        "second-seed0",
        "second-seed1",
        "report",
    ]
    after = [j.get("dependency") for j in jobs]
    assert after == [None, "afterok:1", "afterok:1", "afterany:1:2:3"]
    assert [j.get("kill-on-invalid-dep") for j in jobs] == [None, "yes", "yes", None]


def test_the_report_is_of_what_is_done_and_makes_no_failed_run_again(experiment, project, capsys):
    done = project / "runs/made/first-seed0"
    done.mkdir(parents=True)
    record = {"fingerprint": "", "commit": None, "step": 2, "metrics": {}, "seconds": 60.0}
    (done / DONE).write_text(json.dumps(record))
    (done / starts.CONFIG).write_text("{}")
    assert slurm.make_report(["configs/made.py", "runs/made"]) == 1
    assert "not done: second-seed0, second-seed1." in capsys.readouterr().out
    assert "Not finished: 2 of 3 runs." in (project / "runs/made/report.md").read_text()
    assert not (project / "runs/made/second-seed0").exists()


def test_a_job_knows_the_command_that_it_was_planned_by(cluster, project):
    assert cli.main([*TRAIN, *CLUSTER]) == 0
    typed = "python launch.py train --config=configs/tiny.py --workdir=runs/tiny"
    assert f"\nexport RESEARCH_COMMAND='{typed}'\n" in cluster()[0]["file"]


def test_what_is_finished_is_not_submitted_again(experiment, cluster, project, monkeypatch):
    (project / "runs/made/first-seed0").mkdir(parents=True)
    (project / "runs/made/first-seed0" / DONE).write_text('{"fingerprint": "same"}')
    monkeypatch.setattr(runner, "fingerprint", lambda job: "same")
    assert cli.main([*experiment, *CLUSTER, "--only=*seed1"]) == 0
    (found,) = cluster()
    assert found["flags"]["job-name"] == "second-seed1" and "dependency" not in found["flags"]


def test_a_workdir_that_a_queued_job_writes_to_is_refused(project, cluster, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_QUEUED", f"(null)\n{project}/runs/tiny")
    assert cli.main([*TRAIN, *CLUSTER]) == 2
    assert "a job in the queue writes to" in capsys.readouterr().err and cluster() == []


def test_without_slurm_the_error_says_so(project, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert cli.main([*TRAIN, *CLUSTER]) == 2
    assert (
        "'sbatch' is not on PATH; launch from a machine of the cluster" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("workdir", "message"),
    [("gs://some-bucket/runs/tiny", "a folder that all nodes share"), ("configs/x", "is code")],
)
def test_workdirs_that_cannot_be(project, cluster, capsys, workdir, message):
    assert cli.main([*TRAIN[:2], f"--workdir={workdir}", *CLUSTER]) == 2
    assert message in capsys.readouterr().err


def test_a_path_that_is_nowhere_is_found_before_anything_is_submitted(project, cluster, capsys):
    given = "--config.data.corpus=['files:corpora/*.jsonl']"
    assert cli.main([*TRAIN, *CLUSTER, given]) == 2
    assert "config.data.corpus[0]: there is no corpora/*.jsonl here" in capsys.readouterr().err
    assert not cluster()


def test_parallel_is_refused(experiment, cluster, capsys):
    assert cli.main([*experiment, *CLUSTER, "--parallel=2"]) == 2
    assert "leave it out with --on=slurm" in capsys.readouterr().err


def worker_of(code, queued, train=lambda: None):
    """Calls a worker whose command ends with `code` after `train`; queued: told when it is."""

    def call(arguments):
        before = signal.signal(signal.SIGTERM, lambda *_: None)  # as the loop does
        train()
        signal.signal(signal.SIGTERM, before)
        return code

    return slurm.Worker(call, [])


@pytest.fixture
def queued(monkeypatch):
    """What submitit's handler was told; it is in place while a job runs."""
    told = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    yield told
    signal.signal(signal.SIGUSR2, before)


def test_a_job_that_is_out_of_time_is_queued_again_after_its_checkpoint(queued):
    def train():
        os.kill(os.getpid(), signal.SIGUSR2)
        assert queued == []  # not before the loop has saved

    worker_of(130, queued, train)()
    assert queued == [signal.SIGUSR2]


def test_a_job_that_fails_is_not_queued_again(queued):
    with pytest.raises(RuntimeError, match="exit code 2"):
        worker_of(2, queued)()
    assert queued == []


@pytest.mark.parametrize("code", [2, 3])
def test_wrong_input_and_a_divergence_are_not_queued_again_though_time_is_up(queued, code):
    with pytest.raises(RuntimeError, match=f"exit code {code}"):
        worker_of(code, queued, lambda: os.kill(os.getpid(), signal.SIGUSR2))()
    assert queued == []


def test_what_sbatch_refuses_is_said_in_its_words(project, cluster, programs, capsys):
    message = "invalid partition specified: gpu"
    programs("sbatch", f"import sys\nsys.exit('sbatch: error: {message}')")
    programs("sinfo", "print('main* 2 nodes')")
    assert cli.main([*TRAIN, *CLUSTER]) == 2
    said = capsys.readouterr().err
    assert said == f"error: sbatch: {message}; the partitions are\n  main* 2 nodes\n"


def test_a_job_that_would_wait_for_ever_is_cancelled(
    experiment, cluster, programs, capsys, project, monkeypatch
):
    """The reason is that of the second job."""
    programs(
        "squeue",
        "import sys\nif '--jobs=2' in sys.argv: print('PartitionNodeLimit')\n",
    )
    programs("sinfo", "print('main* 2 nodes')")
    programs(
        "scancel",
        f"import sys\nopen({str(project / 'cancelled')!r}, 'w').write(' '.join(sys.argv[1:]))",
    )
    assert cli.main([*experiment, *CLUSTER]) == 2
    assert "wait for ever (PartitionNodeLimit)" in capsys.readouterr().err
    assert (project / "cancelled").read_text() == "1 2"


def test_a_job_that_ends_in_time_is_not_queued_again(queued):
    worker_of(0, queued, lambda: os.kill(os.getpid(), signal.SIGUSR2))()
    assert queued == []


@pytest.mark.long
def test_a_job_runs_is_stopped_and_goes_on_to_its_end(project, cluster, programs, monkeypatch):
    """With submitit's own worker: time is up once, `scontrol requeue` starts the job again."""
    monkeypatch.setenv("SLURM_RUNS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    programs(
        "scontrol",
        "import json, os, subprocess, sys\n"
        "text = json.load(open(os.environ['SLURM_FAKE'] + '/' + sys.argv[2]))['file']\n"
        "subprocess.Popen(['bash', '-c', text], start_new_session=True)\n",
    )
    assert cli.main([*TRAIN, *CLUSTER, "--config.train.steps=1000"]) == 0
    log = project / "runs/tiny/launch/1_0_log.out"
    wait_for(log, r"step 1/1,000")
    os.kill(int(Path(os.environ["SLURM_FAKE"] + ".pid").read_text()), signal.SIGUSR2)
    assert wait_for(log, r"Requeued job 1(.|\n)*resuming \S+ at step \d+(.|\n)*done: step 1,000")
    metrics = (project / "runs/tiny/metrics.jsonl").read_text().splitlines()
    steps = {json.loads(line)["step"] for line in metrics}
    assert steps == set(range(1, 1001))

"""A Kubernetes cluster: the commands, and that xpk gets the code of the commit."""

import json
import shutil
import subprocess

import pytest

from research import cli

TRAIN = ("train", "--config=configs/tiny.py", "--workdir=gs://some-bucket/runs/tiny")
CLUSTER = (
    "--on=gke",
    "--on.project=some-project",
    "--on.zone=us-west4-a",
    "--on.cluster=some-cluster",
    "--on.tpu_type=v5litepod-16",
)
# A pod for each machine of the slice: here one shell, in a copy of the code.
XPK = """
import json, os, subprocess, sys
flags = dict(a[2:].split("=", 1) for a in sys.argv[1:] if a.startswith("--"))
if flags["workload"] == "refused":
    sys.exit("no such cluster")
files = sorted(os.listdir(flags["script-dir"]))
command = flags["command"].replace("pip install", "echo installs")
done = subprocess.run(["bash", "-c", command], cwd=flags["script-dir"], capture_output=True)
print(json.dumps([sys.argv[1:3], files, done.stdout.decode()]))
"""


@pytest.mark.parametrize("given", [(), ("--on.num_slices=2", "--config.seed=3")])
def test_the_dry_run_prints_what_would_be_called(golden, capsys, given):
    assert cli.main([*TRAIN, *CLUSTER, *given, "--dry_run"]) == 0
    golden(f"gke{len(given)}", capsys.readouterr().out)


def test_the_workload_runs_the_code_of_the_commit(stub, programs, capfd):
    stub("import sys\nprint('here', *sys.argv[1:])\n")
    programs("xpk", XPK)
    programs("python", "import os, sys\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])")
    assert cli.main([*TRAIN, *CLUSTER]) == 0
    shown = capfd.readouterr().out
    verb, files, output = json.loads(next(x for x in shown.splitlines() if x.startswith("[")))
    assert verb == ["workload", "create"]
    assert files == [".gitignore", "COMMIT", "configs", "corpus.jsonl", "launch.py"]
    installed, ran = output.splitlines()
    assert installed == "installs --quiet -r requirements-tpu.txt"
    assert ran == "here train --config=configs/tiny.py --workdir=gs://some-bucket/runs/tiny"
    assert "xpk workload delete" in shown


def test_a_refusal_is_ours_too(project, programs, capfd):
    programs("xpk", XPK)
    assert cli.main([*TRAIN, *CLUSTER, "--on.name=refused"]) == 2
    found = capfd.readouterr()
    assert "no such cluster" in found.err and "xpk failed with exit code 1" in found.err
    assert "submitted" not in found.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((*CLUSTER, "--on.name=" + "a" * 41), "at most 40 characters"),
        ((*CLUSTER, "--on.priority=urgent"), "is not valid; valid: high, low, medium"),
        (CLUSTER[:4], "--on=gke needs --on.tpu_type"),
        ((*CLUSTER[:4], "--on.tpu_type=v5e-16"), "--on.tpu_type=v5e-16: write v5litepod-16"),
        (CLUSTER, "'xpk' is not on PATH; `pipx install xpk`"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_submitted(
    project, monkeypatch, capsys, given, message
):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert cli.main([*TRAIN, *given]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(shutil.which("xpk") is None, reason="xpk is not installed")
def test_xpk_takes_the_command(project, capsys, tmp_path, monkeypatch):
    """xpk's own dry run, which reads all flags and asks no cloud."""
    from research.lab.launchers import gke

    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    options = gke.Options("some-project", "us-west4-a", "some-cluster", "v5litepod-16")
    command = gke.create(options, "tiny", str(project), ["python", "launch.py", "train"])
    dry = [*command, "--dry-run", "--skip-validation"]
    done = subprocess.run(dry, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gke-tpu-topology: 4x4" in done.stdout

"""A TPU slice: its commands, and a whole launch on folders in place of machines."""

import json
import re
from pathlib import Path

import pytest

from research import cli
from research.lab.launchers import google, tpu_vm
from tests.lab.launchers.conftest import git

FAKE = Path(__file__).with_name("fake_gcloud.py").read_text()
WHERE = ("--on.project=some-project", "--on.zone=us-west4-a")
SLICE = ("--on=tpu_vm", *WHERE, "--on.accelerator_type=v5litepod-16")
TRAIN = ("train", "--config=configs/tiny.py", "--workdir=gs://some-bucket/runs/Tiny_1")


@pytest.fixture
def cloud(tmp_path, programs, monkeypatch):
    """Its folder; a function reads the verbs that gcloud was called with."""
    programs("gcloud", FAKE)
    (tmp_path / "cloud").mkdir()
    monkeypatch.setenv("CLOUD", str(tmp_path / "cloud"))
    monkeypatch.delenv("XLA_FLAGS")  # a machine has its own devices
    monkeypatch.setattr(tpu_vm, "SECONDS_BETWEEN_LOOKS", 0.05)
    return tmp_path / "cloud"


def verbs(cloud, but="describe"):
    calls = [json.loads(line)[3] for line in (cloud / "calls").read_text().splitlines()]
    return [verb for verb in calls if verb != but]


@pytest.mark.parametrize("given", [(), ("--on.spot=true", "--on.name=mine", "--config.seed=3")])
def test_the_dry_run_prints_what_would_be_called(golden, capsys, given):
    assert cli.main([*TRAIN, *SLICE, *given, "--dry_run"]) == 0
    golden(f"tpu_vm{len(given)}", capsys.readouterr().out)


COUNTS = """
import pathlib, time
file = pathlib.Path.home() / "bucket" / "step"
file.parent.mkdir(exist_ok=True)
begin = int(file.read_text()) if file.exists() else 0
print("begins after", begin, flush=True)
for step in range(begin + 1, 11):
    time.sleep(0.05)
    part = file.with_name("part")
    part.write_text(str(step))
    part.replace(file)  # it may be ended at any time
"""


def test_what_is_preempted_goes_on_on_another_slice(stub, cloud, capfd):
    stub(COUNTS)
    (cloud / "preempt").write_text("bucket/step")
    assert cli.main([*TRAIN, *SLICE]) == 0
    once = ["create", "scp", "ssh", "ssh", "ssh"]
    assert verbs(cloud) == [*once, "delete", *once, "delete"]
    begins = re.findall(r"begins after (\d+)", capfd.readouterr().out)
    assert int(begins[-1]) > 0, "the log of the first slice may be lost with it"
    assert (cloud / "machines" / "0" / "bucket" / "step").read_text() == "10"


def test_it_is_asked_for_no_more_often_than_said(stub, cloud):
    stub(COUNTS)
    (cloud / "preempt").write_text("bucket/step")
    assert cli.main([*TRAIN, *SLICE, "--on.restarts=0"]) == 255
    assert verbs(cloud).count("create") == 1


@pytest.mark.long
def test_a_training_goes_through_a_preemption_to_its_end(project, cloud, capfd):
    (cloud / "preempt").write_text("bucket/*/*/checkpoints/[0-9]/about/SHA256SUMS")
    train = (*TRAIN, "--config.train.steps=40", "--config.train.checkpoint_every=4")
    assert cli.main([*train, *SLICE]) == 0
    shown = capfd.readouterr().out
    assert re.search(r"resuming \S+/bucket/runs/Tiny_1/checkpoints at step \d", shown)
    assert "done: step 40" in shown
    metrics = cloud / "machines" / "0" / "bucket" / "runs" / "Tiny_1" / "metrics.jsonl"
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 41))


def test_every_machine_runs_the_command_with_the_code_of_the_commit(
    project, stub, cloud, monkeypatch, capfd
):
    monkeypatch.setenv("WORKERS", "2")
    stub("import sys\nprint(open('COMMIT').read(), 'here', *sys.argv[1:])\n")
    assert cli.main([*TRAIN, *SLICE, "--config.train.best=it's $HOME"]) == 0
    line = "here train --config=configs/tiny.py --workdir=gs://some-bucket/runs/Tiny_1"
    line = f"{git(project, 'rev-parse', 'HEAD')}\n {line} --config.train.best=it's $HOME\n"
    assert capfd.readouterr().out.count(line) == 2


def test_a_training_that_fails_is_not_repeated_and_its_code_is_ours(stub, cloud):
    stub("import sys\nsys.exit(1)\n")
    assert cli.main([*TRAIN, *SLICE]) == 1
    assert verbs(cloud)[-2:] == ["ssh", "delete"] and verbs(cloud).count("create") == 1


def test_a_launch_that_is_given_again_shows_the_training_that_runs(stub, cloud, monkeypatch, capfd):
    stub("import time\nprint('begun', flush=True)\ntime.sleep(2)\nprint('ended')\n")
    again = [*TRAIN, *SLICE, "--on.keep=true"]
    with monkeypatch.context() as patch:  # the terminal is closed before the log is followed
        call = tpu_vm.programs.call
        unfollowed = lambda line: 0 if "--follow" in line[-1] else call(line)  # noqa: E731
        patch.setattr(tpu_vm.programs, "call", unfollowed)
        assert cli.main(again) == 0
    assert cli.main(again) == 0
    assert capfd.readouterr().out.count("ended") == 1
    (log,) = cloud.glob("machines/0/*/run-*/log")
    assert log.read_text() == "begun\nended\n"
    assert verbs(cloud).count("create") == 1 and "delete" not in verbs(cloud)


def test_a_slice_that_is_not_deleted_is_told(stub, cloud, monkeypatch, capsys):
    stub("")
    monkeypatch.setenv("REFUSES", "delete")
    assert cli.main([*TRAIN, *SLICE]) == 1
    assert "the slice is not deleted and costs money" in capsys.readouterr().err


def test_a_slice_of_another_type_is_left_alone(project, cloud, capsys):
    state = {"state": "ACTIVE", "type": "v5litepod-8"}
    (cloud / "state.json").write_text(json.dumps(state))
    assert cli.main([*TRAIN, *SLICE]) == 2
    assert "accelerator type v5litepod-8, not v5litepod-16" in capsys.readouterr().err
    assert verbs(cloud) == [] and json.loads((cloud / "state.json").read_text()) == state


def test_what_cannot_be_provided_ends_with_the_reason(project, cloud, capsys):
    (cloud / "state.json").write_text(json.dumps({"state": "FAILED", "type": "v5litepod-16"}))
    assert cli.main([*TRAIN, *SLICE]) == 2
    assert "could not provide the slice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (WHERE, "needs --on.accelerator_type"),
        (("--on.zone=us-west4-a",), "needs --on.project"),
        ((*SLICE[1:3], "--on.accelerator_type=v5e-16"), "write v5litepod-16"),
        ((*SLICE[1:3], "--on.accelerator_type=v5litepot-16"), "did you mean 'v5litepod"),
        ((*SLICE[1:3], "--on.accelerator_type=v5litepod-12"), "valid: 1, 4, 8, 16"),
        ((*SLICE[1:], "--on.name=My_Run"), "--on.name=My_Run would be refused"),
        ((*SLICE[1:], "--on.name=" + "a" * 61), "at most 60 characters"),
        ((*SLICE[1:], "--on.spot=yes"), "--on.spot=yes must be true or false"),
        ((*SLICE[1:], "--on.sport=true"), "did you mean 'spot'"),
        ((*SLICE[2:], "--on.project=P"), "--on.project=P is not a project id"),
        ((*SLICE[1:2], *SLICE[3:], "--on.zone=us-west4"), "--on.zone=us-west4 is not a zone"),
    ],
)
def test_what_the_cloud_would_refuse_is_found_here(project, cloud, capsys, given, message):
    assert cli.main([*TRAIN, "--on=tpu_vm", *given]) == 2
    assert message in capsys.readouterr().err
    assert not (cloud / "calls").exists()


def test_a_workdir_must_outlive_the_slice(project, cloud, capsys):
    assert cli.main([*TRAIN[:2], "--workdir=runs/tiny", *SLICE]) == 2
    assert "--workdir=gs://BUCKET/" in capsys.readouterr().err


HERE = "runs/here/*.txt"


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("init_from", "runs/here", "init_from: runs/here"),
        ("tokenizer.path", "runs/here", "tokenizer.path: runs/here"),
        ("data.corpus", [f"files:{HERE}"], f"data.corpus[0]: {HERE}"),
        (
            "data.corpus",
            [{"name": "files:corp*.jsonl", "exclude": [f"files:{HERE}"]}],
            f"data.corpus[0]: {HERE}",
        ),
        (
            "data.corpus",
            [{"name": "tfds:wiki40b", "data_dir": "runs/here"}],
            "data.corpus[0].data_dir: runs/here",
        ),
    ],
)
def test_what_only_this_machine_has_is_found_before_a_slice_is_asked_for(
    project, cloud, capsys, key, value, path
):
    (project / "runs/here").mkdir(parents=True)
    (project / "runs/here/a.txt").write_text("a text")
    assert cli.main([*TRAIN, *SLICE, f"--config.{key}={value}"]) == 2
    message = f"config.{path} is neither in the commit nor on a bucket"
    assert message in capsys.readouterr().err
    assert not (cloud / "calls").exists()


def test_what_is_nowhere(project, cloud, capsys):
    assert cli.main([*TRAIN, *SLICE, "--config.tokenizer.path=nowhere"]) == 2
    assert "config.tokenizer.path: there is no nowhere here" in capsys.readouterr().err


def test_committed_files_and_buckets_are_reached(project, cloud, capsys):
    sources = "['files:corp*.jsonl', 'files:gs://b/*.jsonl']"
    assert cli.main([*TRAIN, *SLICE, "--dry_run", f"--config.data.corpus={sources}"]) == 0
    assert "queued-resources create" in capsys.readouterr().out


def test_without_gcloud_the_error_says_where_it_comes_from(project, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert cli.main([*TRAIN, *SLICE]) == 2
    assert "'gcloud' is not on PATH; https://cloud.google.com/sdk" in capsys.readouterr().err


def test_names_are_made_of_the_workdir():
    assert google.name_of("", "gs://b/runs/BERT base.2/", 60) == "bert-base-2"

"""The order of runs, and the fate of the others when one fails or is stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from research.errors import UserError
from research.lab import experiment
from research.lab.workers import lanes, runner
from research.monitoring import starts
from tests import helpers

# A run starts from another by its name alone: checkpoints are not what is tested here.
NO_CHECKPOINT = SimpleNamespace(fingerprint="", config={"model": {}}, tokenizer_json="")

# Stands in for a run: notes when it began and ended, and does what its name says.
CHILD = """
import json, pathlib, signal, sys, time
file, folder, run, seed, cores = sys.argv[1:]
workdir = pathlib.Path(folder) / f"{run}-seed{seed}"
began = time.monotonic()
print(f"{run} begins", flush=True)
told = json.loads(pathlib.Path(file).with_suffix(".json").read_text())
(workdir / "begun.json").write_text(json.dumps({"fingerprint": told[run]}))
if run == "broken":
    print("error: it broke")
    sys.exit(2)
if run == "endless":
    signal.signal(signal.SIGINT, lambda *_: (print("stopped at step 7"), sys.exit(130)))
    print("ready", flush=True)
    while True:
        time.sleep(0.02)
time.sleep(0.5)
record = {"fingerprint": told[run], "commit": told["commit"]}
record |= {"cores": cores, "began": began, "ended": time.monotonic()}
(workdir / "done.json").write_text(json.dumps(record))
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function: runs by name, each with the values of its `Run` -> (outcome, what was said)."""
    values = helpers.run_values("gpt", tmp_path, steps=2)
    config = tmp_path / "config.py"
    config.write_text(
        "from ml_collections import ConfigDict\n\n\n"
        f"def get_config(arg=''):\n    return ConfigDict({values!r})\n"
    )
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setattr(runner, "PROGRAM", (sys.executable, str(tmp_path / "child.py")))
    monkeypatch.setattr(experiment, "read_info", lambda path: NO_CHECKPOINT)

    def run(runs, **flags):
        file = write(
            tmp_path / "experiment.py", {k: {"config": str(config)} | v for k, v in runs.items()}
        )
        said = []
        loaded = experiment.load(file)
        planned = experiment.jobs(loaded, tmp_path / "runs")
        keys = {job.run: experiment.fingerprint(job) for job in planned}
        (tmp_path / "experiment.json").write_text(json.dumps(keys | {"commit": starts.commit()}))
        found = runner.run(loaded, file, tmp_path / "runs", say=said.append, **flags)
        return found, said

    return run


def write(path, runs):
    lines = "".join(f"    {name!r}: Run(**{values!r}),\n" for name, values in runs.items())
    path.write_text(
        "from research.lab.experiment import Experiment, Run\n\n"
        f"RUNS = {{\n{lines}}}\n\n\n"
        "def get_experiment():\n    return Experiment('made', RUNS)\n"
    )
    return str(path)


def record(folder, name):
    return json.loads((folder / "runs" / name / "done.json").read_text())


def test_a_run_starts_when_what_it_starts_from_is_done(make, tmp_path):
    make({"second": {"start": "first"}, "other": {}, "first": {}}, parallel=3)
    first, second = record(tmp_path, "first-seed0"), record(tmp_path, "second-seed0")
    assert second["began"] >= first["ended"]
    assert record(tmp_path, "other-seed0")["began"] < first["ended"]


@pytest.mark.parametrize("parallel", [1, 2])
def test_no_more_at_a_time_than_asked_for(make, tmp_path, parallel):
    make({f"run{i}": {} for i in range(4)}, parallel=parallel)
    found = [record(tmp_path, f"run{i}-seed0") for i in range(4)]
    at_once = max(sum(o["began"] <= r["began"] < o["ended"] for o in found) for r in found)
    assert at_once == parallel


@pytest.mark.skipif(len(lanes.cores()) < 2, reason="needs two cores")
def test_runs_at_the_same_time_share_no_core(make, tmp_path):
    make({"one": {}, "two": {}, "last": {}}, parallel=2)
    one, two = (set(record(tmp_path, f"{n}-seed0")["cores"].split(",")) for n in ("one", "two"))
    assert one and two and not one & two
    # Nor does a run have more when it is the last one: its numbers do not depend on the others.
    assert set(record(tmp_path, "last-seed0")["cores"].split(",")) in (one, two)


def test_a_failed_run_is_shown_and_only_what_starts_from_it_is_left(make, tmp_path):
    runs = {"broken": {}, "next": {"start": "broken"}, "last": {"start": "next"}, "good": {}}
    found, said = make(runs, parallel=1)
    assert found.failed == ["broken-seed0"] and found.left == ["next-seed0", "last-seed0"]
    shown = "\n".join(said)
    assert "exit code 2" in shown and "error: it broke" in shown
    assert record(tmp_path, "good-seed0")


def test_what_is_finished_is_not_made_again(make, tmp_path):
    make({"one": {}}, parallel=1)
    before = record(tmp_path, "one-seed0")
    found, said = make({"one": {}, "two": {"start": "one"}}, parallel=1)
    assert record(tmp_path, "one-seed0") == before and record(tmp_path, "two-seed0")
    assert "one-seed0: finished before" in said and not found.failed


def test_a_folder_with_another_run_is_found_before_any_starts(make, tmp_path):
    make({"one": {}}, parallel=1)
    with pytest.raises(UserError, match="one-seed0 holds a run, finished, with another config"):
        make({"new": {}, "one": {"overrides": {"train.steps": 3}}}, parallel=1)
    assert not (tmp_path / "runs" / "new-seed0").exists()


def test_what_another_commit_made_is_kept_and_made_again_if_asked_for(make, tmp_path, monkeypatch):
    runs = {"one": {}, "two": {"start": "one"}, "three": {}}
    make(runs, parallel=1)
    before = record(tmp_path, "two-seed0")
    monkeypatch.setattr(starts, "commit", lambda: "another")
    _, said = make(runs, parallel=1)
    assert any("one-seed0, two-seed0, three-seed0; --rerun_changed" in line for line in said)
    assert record(tmp_path, "two-seed0") == before
    _, said = make(runs, parallel=1, only="one", rerun_changed=True)
    assert record(tmp_path, "one-seed0")["commit"] == "another"
    assert (tmp_path / "runs" / "one-seed0.before-1" / "done.json").exists()
    assert record(tmp_path, "three-seed0")["commit"] != "another"
    make(runs, parallel=1, rerun_changed=True)
    assert record(tmp_path, "two-seed0")["commit"] == "another"
    assert record(tmp_path, "two-seed0.before-1") == before


def test_a_finished_run_is_not_made_again_because_its_start_is_gone(make, tmp_path):
    runs = {"one": {}, "two": {"start": "one"}, "new": {"start": "one", "fresh": True}}
    make(runs, parallel=1)
    shutil.rmtree(tmp_path / "runs" / "one-seed0")
    with pytest.raises(UserError, match="two-seed0 is finished, but one-seed0, which it starts"):
        make(runs, parallel=1)
    assert (tmp_path / "runs" / "two-seed0" / "done.json").exists()
    del runs["two"]  # of its start the other has only the shape
    _, said = make(runs, parallel=1)
    assert "new-seed0: finished before" in said and record(tmp_path, "one-seed0")


def test_another_config_is_made_beside_what_was_there(make, tmp_path):
    make({"one": {}, "two": {"start": "one"}}, parallel=1)
    changed = {"one": {"overrides": {"train.steps": 3}}, "two": {"start": "one"}}
    _, said = make(changed, parallel=1, rerun_changed=True)
    folders = sorted(p.name for p in (tmp_path / "runs").iterdir())
    # What starts from it is made again too.
    assert folders == ["one-seed0", "one-seed0.before-1", "two-seed0", "two-seed0.before-1"]
    assert "one-seed0: rerun; the old folder is now one-seed0.before-1" in said


def test_what_was_begun_with_another_config_is_found_before_any_starts(make, tmp_path):
    make({"broken": {}}, parallel=1)
    anew = {"broken": {"overrides": {"train.steps": 4}}}
    assert make(anew, parallel=1)[0].failed == ["broken-seed0"], "it had no checkpoint"
    (tmp_path / "runs" / "broken-seed0" / "checkpoints").mkdir()
    same = {"broken": {"overrides": {"train.steps": 4, "train.log_every": 2}}}
    assert make(same, parallel=1)[0].failed == ["broken-seed0"], "it goes on"
    changed = {"new": {}, "broken": {"overrides": {"train.steps": 3}}}
    with pytest.raises(UserError, match="broken-seed0 holds a run, unfinished, with another"):
        make(changed, parallel=1)
    assert not (tmp_path / "runs" / "new-seed0").exists()
    _, said = make(changed, parallel=1, rerun_changed=True)
    assert "broken-seed0: rerun; the old folder is now broken-seed0.before-1" in said


def test_a_damaged_record_is_named(make, tmp_path):
    make({"one": {}}, parallel=1)
    (tmp_path / "runs" / "one-seed0" / "done.json").write_text('{"finger')
    with pytest.raises(UserError, match="one-seed0/done.json is damaged"):
        make({"one": {}}, parallel=1)


def test_only_what_fits_the_pattern_is_made(make, tmp_path):
    runs = {"task": {}, "task-scratch": {}, "other": {}}
    make(runs, parallel=1, only="task*")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "task-scratch-seed0",
        "task-seed0",
    ]
    make({"task": {"seeds": (0, 1, 2)}}, parallel=1, only="task-seed2")
    assert (tmp_path / "runs" / "task-seed2").exists()
    assert not (tmp_path / "runs" / "task-seed1").exists()
    with pytest.raises(UserError, match="'tusk' fits no run; did you mean 'task'"):
        make(runs, parallel=1, only="tusk")


def test_only_needs_what_its_runs_start_from(make):
    with pytest.raises(UserError, match="first-seed0 is not done"):
        make({"first": {}, "second": {"start": "first"}}, parallel=1, only="second")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_the_runs_once_and_leaves_the_rest(make, tmp_path, monkeypatch, number):
    def stop():
        log = tmp_path / "runs" / "endless-seed0" / runner.LOG
        while not (log.exists() and "ready" in log.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    found, said = make({"endless": {}, "later": {}}, parallel=1)
    assert found.interrupted and sorted(found.left) == ["endless-seed0", "later-seed0"]
    assert "endless-seed0: stopped at step 7" in said
    assert not (tmp_path / "runs" / "later-seed0").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_runs_end_when_the_runner_is_killed(tmp_path):
    """`job.main` asks for SIGTERM at its parent's death: here the parent is a shell that ends."""
    code = (
        "import ctypes, signal, time; from research.lab.workers import job; "
        "job.run = lambda *_: (print('ready', flush=True), time.sleep(60)); "
        f"job.main('run', 'f', '{tmp_path}', 'r', '0')"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys, time\n"
         f"p = subprocess.Popen([sys.executable, '-c', {code!r}])\n"
         "print(p.pid, flush=True)\ntime.sleep(60)"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.wait()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the run outlived its runner")


def test_what_a_dry_run_says_of_each(make, tmp_path):
    """Finished, resumed and refused runs; no folder is moved."""
    make({"first": {}, "second": {}}, parallel=2)
    (tmp_path / "runs" / "second-seed0" / "done.json").unlink()
    (tmp_path / "runs" / "second-seed0" / "checkpoints").mkdir()
    file = str(tmp_path / "experiment.py")
    planned = experiment.jobs(experiment.load(file), tmp_path / "runs")
    found = runner.decide(planned)
    assert [found.state(job) for job in planned] == ["finished", "resumes"]
    changed = {"second": {"overrides": {"train.steps": 3}}, "first": {}, "third": {}}
    config = {"config": str(tmp_path / "config.py")}
    write(tmp_path / "experiment.py", {name: config | v for name, v in changed.items()})
    planned = experiment.jobs(experiment.load(file), tmp_path / "runs")
    with pytest.raises(UserError, match="second-seed0 holds a run, unfinished, with another conf"):
        runner.decide(planned)
    found = runner.decide(planned, rerun_changed=True)
    assert [found.state(job) for job in planned] == ["rerun", "finished", ""]
    assert sorted(p.name for p in (tmp_path / "runs").glob("*-seed0*")) == [
        "first-seed0",
        "second-seed0",
    ]

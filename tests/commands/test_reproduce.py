"""A run made again from its folder."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from research import cli
from research.commands import reproduce
from research.lab.workers import lanes
from research.monitoring import starts
from research.training import loop
from tests import helpers


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The workdir of a finished run, with dropout, accumulation and evaluations."""
    folder = tmp_path_factory.mktemp("reproduce")
    config = helpers.run_config("gpt", folder, steps=4, eval_every=2)
    loop.train(config, str(folder / "run"), quiet=True)
    return folder / "run"


def test_the_same_machine_makes_the_same_run(made, capsys):
    assert cli.main(["reproduce", str(made)]) == 0
    out = capsys.readouterr().out
    again = made.with_name("run-again")
    count = len((made / "metrics.jsonl").read_text().splitlines())
    assert f"{again} is the same run: {count} lines of metrics.jsonl are identical" in out
    assert (again / "metrics.jsonl").read_text() == (made / "metrics.jsonl").read_text()
    assert "other" not in out
    assert cli.main(["reproduce", str(made)]) == 2
    assert "run-again is finished already; remove it" in capsys.readouterr().err


def test_a_run_that_was_stopped_is_the_same_as_far_as_it_went(made, tmp_path, capsys):
    run = shutil.copytree(made, tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3]))
    with open(run / starts.FILE, "a") as file:
        file.write('{"command": ["cut off')
    assert cli.main(["reproduce", str(run)]) == 0
    step = json.loads(lines[2])["step"]
    assert f"the same run as far as that one went, to step {step}" in capsys.readouterr().out


def test_what_differs_is_named(made, tmp_path, capsys):
    run = shutil.copytree(made, tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    changed = json.loads(lines[2]) | {"loss": 1.5}
    lines[2] = json.dumps(changed)
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    start = json.loads((run / starts.FILE).read_text())
    start["versions"]["optax"] = "0.0.1"
    start["devices"]["count"] = 512
    del start["machine"]["cpu"]  # it was not always noted
    (run / starts.FILE).write_text(json.dumps(start | {"commit": "abc"}) + "\n")
    assert cli.main(["reproduce", str(run), f"--workdir={tmp_path / 'new'}"]) == 1
    out = capsys.readouterr().out
    assert f"at step {changed['step']}, loss was 1.5 and is" in out
    assert "other version: optax 0.0.1 then" in out and "count 512 then, 8 now" in out
    assert "other code: commit abc then" in out and "other machine" not in out


def test_code_of_which_no_commit_was_noted_is_told(made):
    start = starts.read(made)[0] | {"commit": None}
    (line,) = reproduce._changes([start], start)
    assert line == "unknown code: no commit was noted"


@pytest.mark.skipif(len(lanes.cores()) < 2, reason="needs two cores")
def test_a_run_that_had_a_part_of_the_cores_has_no_more_again(made, tmp_path, monkeypatch, capsys):
    there, used = lanes.cores(), []
    monkeypatch.setattr(reproduce, "_again", lambda *_: used.append(lanes.cores()) or 0)
    assert cli.main(["reproduce", str(made)]) == 0 and not capsys.readouterr().out
    run = shutil.copytree(made, tmp_path / "run")
    start = json.loads((run / starts.FILE).read_text())
    start["machine"]["cores"] = 1
    (run / starts.FILE).write_text(json.dumps(start) + "\n")
    assert cli.main(["reproduce", str(run)]) == 0
    assert used == [there, there[:1]] and lanes.cores() == there
    assert f"on 1 of {len(there)} cores, as the run had" in capsys.readouterr().out


@pytest.mark.long
def test_jax_counts_the_cores_after_they_are_limited(made):
    code = (
        "from jax._src import xla_bridge\n"
        "from research import cli\n"
        "from research.commands import reproduce\n"
        "reproduce._again = lambda *_: print(xla_bridge.backends_are_initialized())\n"
        f"cli.main(['reproduce', {str(made)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_other_data_is_found_before_training(made, tmp_path, capsys):
    run = shutil.copytree(made, tmp_path / "run")
    start = json.loads((run / starts.FILE).read_text()) | {"data": "other"}
    (run / starts.FILE).write_text(json.dumps(start) + "\n")
    assert cli.main(["reproduce", str(run)]) == 2
    assert "the data or the tokenizer has changed since" in capsys.readouterr().err
    assert not (tmp_path / "run-again").exists()


@pytest.mark.long
def test_another_checkpoint_to_start_from_is_found_before_training(made, tmp_path, capsys):
    config = helpers.run_config("gpt", tmp_path, steps=1)
    loop.train(config, str(tmp_path / "first"), quiet=True)
    first = str(tmp_path / "first")
    loop.train(dataclasses.replace(config, init_from=first), str(tmp_path / "run"), quiet=True)
    shutil.rmtree(first)
    loop.train(dataclasses.replace(config, seed=config.seed + 1), first, quiet=True)
    assert cli.main(["reproduce", str(tmp_path / "run")]) == 2
    assert f"{first} is not the checkpoint that" in capsys.readouterr().err
    assert not (tmp_path / "run-again").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"[1]", "config.json is damaged: it is not a JSON object"),
        ("metrics.jsonl", b"{}\n", "metrics.jsonl, line 1 is damaged: it has no 'step'"),
        ("starts.jsonl", b"{}\n", "starts.jsonl, line 1 is damaged: it has no 'command'"),
    ],
)
def test_a_damaged_file_is_found_before_training(made, tmp_path, capsys, file, content, message):
    run = shutil.copytree(made, tmp_path / "run")
    (run / file).write_bytes(content)
    assert cli.main(["reproduce", str(run)]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run-again").exists()


def test_a_start_that_lacks_what_is_compared_is_named(made, tmp_path, capsys):
    run = shutil.copytree(made, tmp_path / "run")
    start = json.loads((run / starts.FILE).read_text())
    del start["untracked"]
    (run / starts.FILE).write_text(json.dumps(start) + "\n")
    assert cli.main(["reproduce", str(run)]) == 2
    assert "starts.jsonl, line 1 is damaged: it has no 'untracked'" in capsys.readouterr().err


def test_lines_with_other_spaces_are_the_same():
    assert not reproduce.difference(['{"step": 1, "loss": 2}'], ['{"step":1, "loss":2}'])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "reproduce: which run?"),
        (("a", "b"), "one run at a time"),
        (("nothing",), "nothing is not a run's folder: it has no config.json"),
    ],
)
def test_what_is_no_run(arguments, message, capsys):
    assert cli.main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_run_that_is_meant_is_named(made, capsys):
    assert cli.main(["reproduce", f"{made}s"]) == 2
    assert f"did you mean {str(made)!r}?" in capsys.readouterr().err


def test_a_start_is_noted_with_all_that_made_it(made):
    (start,) = starts.read(made)
    assert start["versions"].keys() >= {"python", "jax", "flax", "optax"}
    assert start["devices"] == {"platform": "cpu", "kind": "cpu", "count": 8, "processes": 1}
    assert start["step"] == 0 and start["data"]
    assert start["commit"] is None or len(start["commit"]) == 40

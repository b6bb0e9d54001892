"""A checkpoint whose newest step is damaged, as every verb that reads one takes it."""

import shutil
from pathlib import Path

import pytest

from research import cli
from research.config import from_values
from research.run import restore
from research.run import run as runs
from tests.checkpoints.test_folder import flip


@pytest.fixture
def damaged(tiny, tmp_path):
    """A run with the good step 1 and the damaged step 2."""
    run = Path(shutil.copytree(tiny("bert").checkpoint, tmp_path / "run"))
    shutil.copytree(run / "checkpoints" / "2", run / "checkpoints" / "1")
    flip(run / "checkpoints" / "2")
    return run


def test_verbs_take_the_older_good_step_and_say_so_once(damaged, tiny, tmp_path, capsys):
    verbs = {"evaluate": [], "export": [f"--output={tmp_path / 'exported'}"]}
    for number, (verb, flags) in enumerate(verbs.items()):
        run = shutil.copytree(damaged, tmp_path / str(number))
        assert cli.main([verb, f"--checkpoint={run}", *flags]) == 0, verb
        found = capsys.readouterr()
        assert found.err.count(f"{run}/checkpoints/2 is damaged: params: ") == 1, verb
        assert "damaged" not in found.out
        if verb == "evaluate":
            assert found.out.startswith("step 1, ")
        named = [verb, f"--checkpoint={run}/checkpoints/2", *flags]
        assert cli.main([arg.replace("exported", "other") for arg in named]) == 2, verb
        assert "no good checkpoint in" in capsys.readouterr().err
    start = {"init_from": str(damaged), "tokenizer": {"kind": "checkpoint"}}
    run = runs.build(from_values(tiny("bert").values | start), quiet=True)
    _, table = restore.initial_params(run)
    assert table.parts["backbone"] == f"restored from {damaged}, step 1"
    assert capsys.readouterr().err.count("is damaged") == 1


def test_verify_lists_each_step(damaged, capsys):
    assert cli.main(["verify", str(damaged)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{damaged}/checkpoints/1: good"
    assert lines[1].startswith(f"{damaged}/checkpoints/2: damaged: params: backbone/")
    assert lines[2] == "1 good, 1 damaged"
    meta = damaged / "checkpoints" / "1" / "about" / "meta.json"
    meta.write_text(meta.read_text() + " ")
    assert cli.main(["verify", str(damaged / "checkpoints" / "1")]) == 2
    assert "about: meta.json does not match its SHA-256" in capsys.readouterr().out
    assert cli.main(["verify", "--checkpoint=gpt"]) == 0
    assert capsys.readouterr().out.endswith("4000: good\n1 good, 0 damaged\n")
    assert cli.main(["verify", str(damaged / "nowhere")]) == 2

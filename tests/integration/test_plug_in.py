"""An objective or a task of one's own is one file and one line: all verbs take it."""

import json

import numpy as np
import pytest

from research import cli
from research.objectives import OBJECTIVES
from research.tasks import TASKS
from tests import helpers
from tests.integration.conftest import write_config, write_lines
from tests.objectives.replaced import Replaced
from tests.tasks.stars import Stars


def reviews(folder, name: str, count: int) -> str:
    rows = [{"id": f"{i}", "text": f"Nam{' bono' * (i % 5)} ite.", "label": f"{i % 5 + 1}"}
            for i in range(count)]  # fmt: skip
    return f"files:{write_lines(folder / name, rows)}"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """(kind, start) -> (config file, values) of a run of four steps."""
    monkeypatch.setitem(OBJECTIVES, Replaced.name, Replaced)
    monkeypatch.setitem(TASKS, Stars.name, Stars)

    def make(kind: str, start: str = ""):
        values = helpers.run_values("bert", tmp_path, steps=4, checkpoint_every=2)
        if kind == "stars":
            del values["objective"], values["data"]["corpus"]
            values["task"] = {"name": "stars"}
            values["data"] |= {"train": reviews(tmp_path, "train.jsonl", 40),
                               "validation": reviews(tmp_path, "validation.jsonl", 10)}  # fmt: skip
            values["train"]["batch_size"] = 16
        else:
            values["objective"] = {"replaced": {"rate": 0.2}, "next_sentence": {}}
        if start:
            values |= {"init_from": start, "model": {"preset": "checkpoint"},
                       "tokenizer": {"kind": "checkpoint"}}  # fmt: skip
        return write_config(tmp_path / f"{kind}.py", values)

    return make


def lines(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_one_of_each_goes_through_all_verbs(made, tmp_path, capsys):
    before = tmp_path / "pretrain"
    for kind, start in (("replaced", ""), ("stars", str(before))):
        file, workdir = made(kind, start), tmp_path / ("stars" if start else "pretrain")
        assert cli.main(["data", f"--config={file}", "--rows=2"]) == 0
        assert cli.main(["train", f"--config={file}", f"--workdir={workdir}"]) == 0
        whole = lines(workdir)
        # It goes on from its checkpoint bit for bit.
        assert cli.main(["train", f"--config={file}", f"--workdir={workdir}", "--rewind=2"]) == 0
        assert lines(workdir) == whole
        assert cli.main(["evaluate", f"--checkpoint={workdir}"]) == 0
        capsys.readouterr()
        assert cli.main(["predict", f"--checkpoint={workdir}", "Nam bono ite."]) == 0
        assert {"replaced": "wrong", "stars": "→ *"}[kind] in capsys.readouterr().out
    assert "validation/replaced_accuracy" in lines(before)[-1]
    assert "validation/distance" in lines(tmp_path / "stars")[-1]
    assert np.isfinite(lines(before)[-1]["validation/next_sentence_loss"])
    assert cli.main(["config", f"--config={made('replaced')}"]) == 0
    assert "share of the tokens that random ones replace" in capsys.readouterr().out

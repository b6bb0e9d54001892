"""Steps, tokens and hours of an experiment that has not been made."""

from pathlib import Path

import pytest

from research.experiments import checks, estimate, experiment
from research.experiments.experiment import Experiment, Run
from research.training import flops
from tests import helpers


def test_what_runs_will_take(tmp_path, monkeypatch):
    monkeypatch.setattr(flops, "matmul_peak", lambda dtype: 1e9)
    files = {}
    for kind, changes in (("bert", {"tokens": 7680}), ("sentiment", {"epochs": 1.5})):
        values = helpers.run_values(kind, tmp_path, **changes)
        if kind == "sentiment":
            values["model"] = {"preset": "checkpoint"}
            values["tokenizer"] = {"kind": "checkpoint"}
        files[kind] = str(tmp_path / f"{kind}.py")
        Path(files[kind]).write_text(f"def get_config(arg=''):\n    return {values!r}\n")
    runs = {
        "base": Run(files["bert"]),
        "epochs": Run(files["bert"], {"train.tokens": 0, "train.epochs": 2.0}),
        "task": Run(files["sentiment"], start="base", seeds=(0, 1)),
        "asked": Run(files["sentiment"], start="task", train=False),
    }
    planned = experiment.jobs(Experiment("made", runs), tmp_path / "runs")
    sheet = estimate.table(planned, planned, lambda job: "")
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert rows["base-seed0"][:3] == ["", "10", "7,680"]
    assert rows["epochs-seed0"] == ["", "?", "?", "?", ""]
    assert rows["task-seed1"][:2] == ["base-seed0", "3"], "60 examples, 32 a batch, 1.5 epochs"
    assert rows["asked-seed1.0"][:3] == ["task-seed1", "0", "0"]
    tokens = [int(row[2].replace(",", "")) for row in rows.values() if row[2] not in ("", "?")]
    assert sum(tokens[:-1]) == tokens[-1] and 96 * 3 < tokens[1] < 96 * helpers.LENGTH
    whole = planned[0].config
    models = {job.run: known.config.model for job, known in checks.outlook(planned, planned)}
    row = flops.forward_per_row(
        models["base"],
        estimate.pretraining.row_layout(whole.objective, helpers.LENGTH, helpers.SLOTS),
        False,
    )
    hours = 3 * row * 7680 / helpers.LENGTH / (estimate.SHARE * 1e9) / 3600
    assert float(rows["base-seed0"][3]) == pytest.approx(hours, abs=0.005)

"""Steps, tokens and hours of an experiment that has not run."""

from pathlib import Path

import pytest

from research.lab import checks, estimate, experiment
from research.lab.experiment import Experiment, Run
from research.objectives import make_objectives
from research.objectives.objective import row_layout
from research.run import flops
from tests import helpers


def test_what_runs_will_take(tmp_path, monkeypatch):
    monkeypatch.setattr(flops, "matmul_peak", lambda dtype, seconds: 1e7)
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
        "often": Run(files["sentiment"], {"train.eval_every": 1}, start="base"),
        "asked": Run(files["sentiment"], start="task", train=False),
    }
    planned = experiment.jobs(Experiment("made", runs), tmp_path / "runs")
    sheet = estimate.table(planned, planned, lambda job: "", parallel=2)
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert rows["base-seed0"][:3] == ["", "10", "7,680"]
    assert rows["epochs-seed0"] == ["", "?", "?", "?", ""]
    assert rows["task-seed1"][:2] == ["base-seed0", "3"], "60 examples, 32 a batch, 1.5 epochs"
    assert rows["asked-seed1.0"][:3] == ["task-seed1", "0", "0"]
    tokens = [int(row[2].replace(",", "")) for row in rows.values() if row[2] not in ("", "?")]
    assert sum(tokens[:-1]) == tokens[-1] and 96 * 3 < tokens[1] < 96 * helpers.LENGTH
    whole = planned[0].config
    models = {job.run: known.config.model for job, known in checks.manifests_of(planned, planned)}
    layout = row_layout(make_objectives(whole.objective), helpers.LENGTH, helpers.SEGMENTS)
    row = flops.forward_per_row(models["base"], layout, layout.predictions)
    # Two at a time: each has half of the machine.
    for share, more, shown in zip(
        estimate.SHARES, estimate.OVERHEAD, hours(rows["base-seed0"]), strict=True
    ):
        seconds = 3 * row * 7680 / helpers.LENGTH / (share * 0.5e7) + more
        assert shown == pytest.approx(seconds / 3600, abs=0.005)
    assert all(low < high for low, high in map(hours, rows.values()) if low)
    once = hours(rows["asked-seed0.0"])[1] - estimate.OVERHEAD[1] / 3600
    more = hours(rows["often-seed0"])[1] - hours(rows["task-seed0"])[1]
    assert more == pytest.approx(2 * once, abs=0.002), "two evaluations more of the same examples"
    assert rows["to run"][3].startswith("more than "), "of one run it is not known"
    assert "2 at a time" in sheet.note
    alone = estimate.table(planned[:1], planned, lambda job: "", parallel=2)
    assert hours(alone.rows[0][1:])[1] < hours(rows["base-seed0"])[1], "it has all of the machine"


def hours(row):
    """The ends of the range in a row of the table, without its name."""
    ends = row[3].removeprefix("more than ").split(" to ")
    return tuple(map(float, ends)) if ends != ["?"] else (0, 0)


def test_runs_wait_for_what_they_start_from_and_for_a_lane():
    def job(name, after=None):
        path = after and Path(after)
        return experiment.Job(name, (0,), None, Path(name), path)

    jobs = [job("a"), job("b", "a"), job("c"), job("d", "elsewhere")]
    seconds = {Path(name): taken for name, taken in zip("abcd", (3.0, 4.0, 2.0, 2.0), strict=True)}
    assert estimate.makespan(jobs, seconds, 1) == 11
    assert estimate.makespan(jobs, seconds, 2) == 7, "a beside c and d, then b"
    assert estimate.makespan(jobs, seconds, 3) == 7
    assert estimate.makespan([], {}, 2) == 0

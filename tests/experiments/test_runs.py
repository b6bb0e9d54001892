"""A report of any runs."""

import json

import pytest

from research.errors import UserError
from research.experiments import runs


def write(folder, values, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": 0, "train": {"steps": 4}} | config))
    lines = [{"step": 4, "validation/accuracy": v} for v in values]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def rows(folders):
    made, _ = runs.report(folders)
    return {row[0]: row[1] for row in made.sheets[0].rows}


def test_runs_that_differ_in_their_seed_alone_share_a_row(tmp_path):
    folders = [
        write(tmp_path / "first", [0.1, 0.5], seed=0),
        write(tmp_path / "another", [0.7], seed=1),
        write(tmp_path / "x" / "first-seed2", [0.2], seed=2, train={"steps": 5}),
    ]
    assert rows(folders) == {"first": "0.600 ± 0.141 (2)", "first-seed2": "0.200"}
    made, _ = runs.report(folders)
    (differing,) = made.details
    assert differing.rows == [["train.steps", "4", "5"]]


def test_fine_tunings_from_one_pretraining_are_one_value(tmp_path):
    folders = [
        write(tmp_path / f"task-seed{p}.{n}", [p + n / 10], seed=n, init_from=f"runs/mlm-seed{p}")
        for p in (0, 1)
        for n in (0, 2)
    ]
    assert rows(folders) == {"task": "0.600 ± 0.707 (2)"}


def test_another_start_is_another_row(tmp_path):
    folders = [
        write(tmp_path / name, [0.1], init_from=f"runs/{start}-seed0")
        for name, start in (("one", "mlm"), ("two", "nsp"))
    ]
    made, _ = runs.report(folders)
    assert made.details[0].rows == [["init_from", '"runs/mlm"', '"runs/nsp"']]


def test_what_is_no_run_or_damaged_is_named(tmp_path):
    good = write(tmp_path / "good", [0.1])
    with pytest.raises(UserError, match="goood is no run's folder: it has no config.json; did"):
        runs.report([str(tmp_path / "goood")])
    with open(tmp_path / "good" / "metrics.jsonl", "a") as file:
        file.write("{damaged\n")
    with pytest.raises(UserError, match="metrics.jsonl, line 2 is damaged"):
        runs.report([good])

"""A report of any runs."""

import json

import pytest

from research.errors import UserError
from research.experiments import provenance, runs


def write(folder, values, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": 0, "train": {"steps": 4}} | config))
    lines = [{"step": 4, "validation/accuracy": v} for v in values]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def rows(folders):
    made, _ = runs.of_folders(folders)
    return {row[0]: row[1] for row in made.sheets[0].rows}


def test_runs_that_differ_in_their_seed_alone_share_a_row(tmp_path):
    folders = [
        write(tmp_path / "first", [0.1, 0.5], seed=0),
        write(tmp_path / "another", [0.7], seed=1),
        write(tmp_path / "x" / "first-seed2", [0.2], seed=2, train={"steps": 5}),
    ]
    assert rows(folders) == {"first": "0.600 ± 0.141 (2)", "first-seed2": "0.200"}
    made, _ = runs.of_folders(folders)
    (differing,) = made.details
    assert differing.rows == [["train.steps", "4", "5"]]


def test_fine_tunings_from_one_pretraining_are_one_value(tmp_path):
    folders = [
        write(tmp_path / f"task-seed{p}.{n}", [p + n / 10], seed=n, init_from=f"runs/mlm-seed{p}")
        for p in (0, 1)
        for n in (0, 2)
    ]
    assert rows(folders) == {"task": "0.600 ± 0.707 (2)"}


def test_a_run_that_was_made_again_is_no_other_seed(tmp_path):
    folders = [
        write(tmp_path / name, [value], seed=seed)
        for name, value, seed in (("a-seed0", 0.1, 0), ("a-seed0.again", 0.1, 0), ("b", 0.3, 1))
    ]
    assert rows(folders) == {"a": "0.200 ± 0.141 (2)"}
    made, _ = runs.of_folders(folders)
    assert made.notes[0] == ("Left out: a-seed0.again, the same run with the same seed as a-seed0.")


def test_fine_tunings_from_two_pretrainings_are_not_compared_over_their_seeds(tmp_path):
    folders = [
        write(tmp_path / f"{start}-task-seed{seed}", [seed / 10 + at], seed=seed, init_from=start)
        for at, start in ((0.0, "mlm-seed0"), (0.5, "nsp-seed0"))
        for seed in range(5)
    ]
    made, _ = runs.of_folders(folders)
    assert made.sheets[0].rows[0][1] == "0.200 ± 0.158 (5)"
    (line,) = made.sheets[1].rows
    assert line[2:] == ["+0.500", "", "", "one seed"]


def test_each_column_is_compared_with_the_first_row_that_has_it(tmp_path):
    folders = [
        write(
            tmp_path / f"{start}-{task}-seed{seed}",
            [at + seed / 10],
            seed=seed,
            task={"name": task},
            train={"steps": at},
        )
        for task in ("span_qa", "token_classification")
        for at, start in enumerate(("mlm", "nsp"))
        for seed in (0, 1)
    ]
    made, _ = runs.of_folders(folders)
    found = {sheet.title: [row[:3] for row in sheet.rows] for sheet in made.sheets[1:]}
    assert found == {
        "Differences to “mlm-span_qa”": [["accuracy (span qa)", "nsp-span_qa", "+1.000"]],
        "Differences to “mlm-token_classification”": [
            ["accuracy (token classification)", "nsp-token_classification", "+1.000"]
        ],
    }
    assert len({sheet.name for sheet in made.sheets}) == 3, "each is a file of its own"


def test_another_start_is_another_row(tmp_path):
    folders = [
        write(tmp_path / name, [0.1], init_from=f"runs/{start}-seed0")
        for name, start in (("one", "mlm"), ("two", "nsp"))
    ]
    made, _ = runs.of_folders(folders)
    assert made.details[0].rows == [["init_from", '"runs/mlm"', '"runs/nsp"']]


def test_what_is_no_run_or_damaged_is_named(tmp_path):
    good = write(tmp_path / "good", [0.1])
    with pytest.raises(UserError, match="goood is no run's folder: it has no config.json; did"):
        runs.of_folders([str(tmp_path / "goood")])
    with open(tmp_path / "good" / "metrics.jsonl", "a") as file:
        file.write("{damaged")
    assert rows([good]) == {"good": "0.100"}, "a line that a kill cut off is no damage"
    with open(tmp_path / "good" / "metrics.jsonl", "a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="metrics.jsonl, line 2 is damaged"):
        runs.of_folders([good])


def test_rows_are_compared_with_the_first_ones(tmp_path):
    values = {"first": (0.5, 0.6, 0.7), "second": (0.8, 0.9, 1.0)}
    folders = [
        write(tmp_path / f"{name}-seed{i}", [value], seed=i, train={"steps": len(name)})
        for name, found in values.items()
        for i, value in enumerate(found)
    ]
    made, _ = runs.of_folders(folders)
    differences = made.sheets[1]
    assert differences.title == "Differences to “first”"
    (line,) = differences.rows
    assert line[:3] == ["accuracy", "second", "+0.300"] and line[5] == "better"
    low, high = map(float, line[3].strip("[]").split(", "))
    # Welch's t: 0.3 ± t(0.975, 4) · sqrt(2 · 0.1² / 3)
    assert (low, high) == pytest.approx((0.3 - 0.2267, 0.3 + 0.2267), abs=1e-3)


def test_what_is_measured_on_other_data_is_not_compared(tmp_path):
    tasks = {"a": {"name": "span_qa"}, "b": {"name": "token_classification"}}
    tasks["c"] = tasks["b"]
    folders = [
        write(tmp_path / name, [0.1], task=task, data={"validation": {"name": f"files:{name}"}})
        for name, task in tasks.items()
    ]
    made, _ = runs.of_folders(folders[:2])
    (sheet,) = made.sheets
    assert sheet.header[1:] == ["accuracy (span qa) ↑", "accuracy (token classification) ↑"]
    assert [row[1:] for row in sheet.rows] == [["0.100", ""], ["", "0.100"]]
    made, _ = runs.of_folders(folders[1:])
    assert made.sheets[0].header[1:] == [
        "accuracy (token classification: files:b) ↑",
        "accuracy (token classification: files:c) ↑",
    ]


def test_the_cost_counts_devices_and_their_price(tmp_path):
    folder = write(tmp_path / "run", [0.1])
    start = {
        "command": ["launch.py", "train"],
        "commit": None,
        "diff": None,
        "versions": {"jax": "1"},
        "devices": {"platform": "tpu", "kind": "TPU v5e", "count": 8},
        "machine": {"system": "Linux", "cores": 4},
        "data": "0123456789abcdef",
    }
    (tmp_path / "run/starts.jsonl").write_text(json.dumps(start) + "\n")
    times = [{"step": s, "seconds": 1800.0, "tokens_per_second": 1.0} for s in (1, 2)]
    (tmp_path / "run/timing.jsonl").write_text("".join(json.dumps(t) + "\n" for t in times))
    made, _ = runs.of_folders([folder], price=1.5)
    assert made.notes[0] == (
        "The runs took 60.0 minutes, added up, 8 hours of a device, 12.00 at 1.5 for one."
    )


def test_the_last_texts_of_a_run_are_shown_and_its_data_named(tmp_path):
    data = {"corpus": [{"name": "files:a.jsonl", "percent": 30.0, "take": 0, "split": ""}]}
    folder = write(tmp_path / "run", [0.1], data=data)
    texts = [{"name": "samples", "step": s, "text": f"- of step {s}\n"} for s in (1, 2)]
    (tmp_path / "run/texts.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    made, _ = runs.of_folders([folder])
    assert made.texts == {"Samples": "- **run** at step 2\n  - of step 2"}
    assert provenance.data_of(tmp_path / "run") == "corpus files:a.jsonl 30 %"

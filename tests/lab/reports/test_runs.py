"""A report of any runs."""

import json
import re
from pathlib import Path

import pytest

from research import cli
from research.commands import report as command
from research.errors import UserError
from research.lab.record import Record
from research.lab.reports import provenance, runs
from research.monitoring import starts


def write(folder, values, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": 0, "train": {"steps": 4}} | config))
    lines = [{"step": 4, "validation/accuracy": v} for v in values]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def rows(folders):
    made = runs.of_folders(folders)
    return {row[0]: row[1] for row in made.sheets[0].rows}


def test_runs_that_differ_in_their_seed_alone_share_a_row(tmp_path):
    folders = [
        write(tmp_path / "first", [0.1, 0.5], seed=0),
        write(tmp_path / "another", [0.7], seed=1),
        write(tmp_path / "x" / "first-seed2", [0.2], seed=2, train={"steps": 5}),
    ]
    assert rows(folders) == {"first": "0.600 ± 0.141 (2)", "first-seed2": "0.200"}
    made = runs.of_folders(folders)
    (differing,) = made.details
    assert differing.title == "Differences of the configs: pre-training"
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
    made = runs.of_folders(folders)
    assert made.notes[0] == ("Left out: a-seed0.again, the same run with the same seed as a-seed0.")


def test_fine_tunings_from_two_pretrainings_are_not_compared_over_their_seeds(tmp_path):
    folders = [
        write(tmp_path / f"{start}-task-seed{seed}", [seed / 10 + at], seed=seed, init_from=start)
        for at, start in ((0.0, "mlm-seed0"), (0.5, "nsp-seed0"))
        for seed in range(5)
    ]
    made = runs.of_folders(folders)
    assert made.sheets[0].rows[0][1] == "0.200 ± 0.158 (5)"
    (line,) = made.sheets[1].rows
    assert line[2:] == ["+0.500", "", "", "", "one seed"]


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
    made = runs.of_folders(folders)
    found = {sheet.title: [row[:3] for row in sheet.rows] for sheet in made.sheets[1:]}
    assert found == {
        "Differences to “mlm-span_qa”": [["accuracy (span qa)", "nsp-span_qa", "+1.000"]],
        "Differences to “mlm-token_classification”": [
            ["accuracy (token classification)", "nsp-token_classification", "+1.000"]
        ],
    }
    assert "No differences" not in "".join(sheet.note for sheet in made.sheets)
    configs = {sheet.name: (sheet.title, sheet.header[1:], sheet.rows) for sheet in made.details}
    assert configs == {
        f"configs_{task}": (
            f"Differences of the configs: {task.replace('_', ' ')}",
            [f"mlm-{task}", f"nsp-{task}"],
            [["train.steps", "0", "1"]],
        )
        for task in ("span_qa", "token_classification")
    }, "not how the tasks differ from each other"
    assert len({sheet.name for sheet in made.sheets}) == 3, "each is a file of its own"


def test_another_start_is_another_row(tmp_path):
    folders = [
        write(tmp_path / name, [0.1], init_from=f"runs/{start}-seed0")
        for name, start in (("one", "mlm"), ("two", "nsp"))
    ]
    made = runs.of_folders(folders)
    assert made.details[0].rows == [["init_from", '"mlm"', '"nsp"']]


def test_what_is_no_run_or_damaged_is_named(tmp_path, capsys):
    good = write(tmp_path / "good", [0.1])
    with pytest.raises(UserError, match="goood is not a run's folder: it has no config.json; did"):
        runs.of_folders([str(tmp_path / "goood")])
    with open(tmp_path / "good" / "metrics.jsonl", "a") as file:
        file.write("{damaged")
    assert rows([good]) == {"good": "0.100"}, "a line that a kill cut off is no damage"
    with open(tmp_path / "good" / "metrics.jsonl", "a") as file:
        file.write("\n")
    assert rows([good]) == {"good": "0.100"}
    assert capsys.readouterr().err.count("metrics.jsonl, line 2 is damaged") == 1


START = {
    "command": ["launch.py", "train"],
    "commit": None,
    "diff": None,
    "versions": {"jax": "1"},
    "devices": {"platform": "tpu", "kind": "TPU v5e", "count": 8},
    "machine": {"system": "Linux", "cores": 4},
    "data": "0123456789abcdef",
}
TIME = b'{"step": 1, "seconds": 1.0, "tokens_per_second": 1.0}\n'


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", b"\xff\xfe\n", ", line 1 is damaged: 'utf-8' codec can't decode"),
        ("metrics.jsonl", b"[1]\n", ", line 1 is damaged: it is not a JSON object"),
        ("metrics.jsonl", b'{"step": 1}\n{}\n', ", line 2 is damaged: it has no 'step'"),
        (
            "metrics.jsonl",
            b'{"step": 1, "validation/f1": [2]}\n',
            ", line 1 is damaged: 'validation/f1' is \\[2\\], not a number",
        ),
        ("timing.jsonl", TIME + b'{"step": 2}\n', ", line 2 is damaged: it has no 'seconds'"),
        ("timing.jsonl", TIME + b"3\n", ", line 2 is damaged: it is not a JSON object"),
        ("texts.jsonl", b'{"name": "a", "step": 1}\n', ", line 1 is damaged: it has no 'text'"),
        ("starts.jsonl", b"{}\n", ", line 1 is damaged: it has no 'command'"),
        (
            "starts.jsonl",
            json.dumps(START | {"devices": {"platform": "cpu", "kind": "cpu"}}).encode() + b"\n",
            ", line 1 is damaged: it has no 'devices.count'",
        ),
        (
            "starts.jsonl",
            json.dumps(START | {"versions": "1"}).encode() + b"\n",
            ", line 1 is damaged: it has no 'versions.jax'",
        ),
        ("config.json", b"[1]", " is damaged: it is not a JSON object"),
        ("config.json", b"\xff", " is damaged: 'utf-8' codec"),
        ("config.json", b'{"data": [1]}', " is damaged: no run's data or task"),
        ("config.json", b'{"data": {"train": {"nam": 1}}}', " is damaged: no run's data .*'name'"),
        ("config.json", b'{"task": "a"}', " is damaged: no run's data or task"),
        ("done.json", b"{}", " is damaged: it has no 'fingerprint'; remove it"),
        ("done.json", b"[1]", " is damaged: it is not a JSON object; remove it to resume"),
        ("done.json", b"\xff", " is damaged: 'utf-8' codec .*; remove it"),
        (
            "done.json",
            b'{"fingerprint": "", "commit": null}',
            " is damaged: it has no 'seconds'; remove it",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, message, capsys):
    folder = write(tmp_path / "run", [0.1])
    (tmp_path / "run" / file).write_bytes(content)
    if file.endswith("l"):  # of lines, which stop no report
        runs.of_folders([folder])
        told = capsys.readouterr().err
        assert re.search(f"warning: .*run/{file}{message}.*; skipping the line\n$", told)
        return
    with pytest.raises(UserError, match=f"run/{file}{message}"):
        runs.of_folders([folder])


def test_a_run_that_was_scored_has_a_task(tmp_path):
    folder = write(tmp_path / "run", [0.1])
    (tmp_path / "run" / "test.jsonl").write_text("")
    with pytest.raises(UserError, match="run/config.json is damaged: it has no task, but test.j"):
        runs.of_folders([folder])


def test_a_text_that_a_kill_cut_within_a_letter_is_no_damage(tmp_path):
    folder = write(tmp_path / "run", [0.1])
    line = json.dumps({"name": "a", "step": 1, "text": "ü"}, ensure_ascii=False).encode()
    (tmp_path / "run/texts.jsonl").write_bytes(line + b"\n" + line[:-3])
    made = runs.of_folders([folder])
    assert made.texts == {"A": "- **run** at step 1\n  ü"}


def test_a_folder_of_runs_stands_for_them(tmp_path, capsys):
    for number, name in enumerate(("b", "a", "a.before-1", "c.before-ish")):
        write(tmp_path / "made" / name, [0.1], train={"steps": number})
    (tmp_path / "made" / "notes").mkdir()
    alone = write(tmp_path / "alone", [0.2], train={"steps": 9})
    assert command.run([f"{tmp_path}/made/", alone], str(tmp_path / "out")) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [line.split("|")[1].strip() for line in shown[1:5]]
    assert names == ["a", "b", "c.before-ish", "alone"]
    with pytest.raises(UserError, match="notes is not a run's folder"):
        command.run([f"{tmp_path}/made/notes"], str(tmp_path / "out"))


@pytest.mark.parametrize("price", ["-1", "nan", "inf", "cheap"])
def test_a_price_that_is_none(tmp_path, capsys, price):
    assert cli.main(["report", write(tmp_path / "run", [0.1]), f"--price={price}"]) == 2
    assert f"--price={price} must be " in capsys.readouterr().err


def test_rows_are_compared_with_the_first_ones(tmp_path):
    values = {"first": (0.5, 0.6, 0.7), "second": (0.8, 0.9, 1.0)}
    folders = [
        write(tmp_path / f"{name}-seed{i}", [value], seed=i, train={"steps": len(name)})
        for name, found in values.items()
        for i, value in enumerate(found)
    ]
    made = runs.of_folders(folders)
    differences = made.sheets[1]
    assert differences.title == "Differences to “first”"
    (line,) = differences.rows
    assert line[:3] == ["accuracy", "second", "+0.300"] and line[6] == "perhaps better"
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
    made = runs.of_folders(folders[:2])
    (sheet,) = made.sheets
    assert sheet.header[1:] == ["accuracy (span qa) ↑", "accuracy (token classification) ↑"]
    assert [row[1:] for row in sheet.rows] == [["0.100", ""], ["", "0.100"]]
    made = runs.of_folders(folders[1:])
    assert made.sheets[0].header[1:] == [
        "accuracy (token classification: files:b) ↑",
        "accuracy (token classification: files:c) ↑",
    ]


def test_the_cost_counts_devices_and_their_price(tmp_path):
    folder = write(tmp_path / "run", [0.1])
    (tmp_path / "run/starts.jsonl").write_text(json.dumps(START) + "\n")
    times = [{"step": s, "seconds": 1800.0, "tokens_per_second": 1.0} for s in (1, 2)]
    (tmp_path / "run/timing.jsonl").write_text("".join(json.dumps(t) + "\n" for t in times))
    made = runs.of_folders([folder], price=1.5)
    assert made.notes[0] == (
        "The runs took 60.0 minutes in total, 8 device-hours, 12.00 at 1.5 each."
    )


def test_the_last_texts_of_a_run_are_shown_and_its_data_named(tmp_path):
    data = {"corpus": [{"name": "files:a.jsonl", "percent": 30.0, "take": 0, "split": ""}]}
    folder = write(tmp_path / "run", [0.1], data=data)
    texts = [{"name": "samples", "step": s, "text": f"- of step {s}\n"} for s in (1, 2)]
    (tmp_path / "run/texts.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    made = runs.of_folders([folder])
    assert made.texts == {"Samples": "- **run** at step 2\n  - of step 2"}
    assert provenance.data_of(Record(tmp_path / "run", "run")) == "corpus files:a.jsonl 30 %"


def columns(folders):
    made = runs.of_folders(folders)
    return made.sheets[0].header[1:]


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({"eval_batches": 2, "batch_size": 64}, {"eval_batches": 0}, "first 128 positions"),
        (
            {"eval_batches": 2, "batch_size": 64},
            {"eval_batches": 2, "batch_size": 32},
            "128 positions",
        ),
    ],
)
def test_what_is_measured_on_other_batches_has_a_column_of_its_own(tmp_path, ours, theirs, said):
    folders = [
        write(tmp_path / name, [0.5], train=train) for name, train in (("a", ours), ("b", theirs))
    ]
    found = columns(folders)
    assert len(found) == 2 and said in found[0] and said not in found[1]
    assert len(runs.of_folders(folders).sheets) == 1  # nothing is compared


def test_what_is_measured_on_other_data_has_a_column_of_its_own(tmp_path):
    held_out = [
        {"corpus": [{"name": "bundled:corpus/brown"}], "held_out_percent": p} for p in (2, 5)
    ]
    folders = [write(tmp_path / f"x{i}", [0.5], data=data) for i, data in enumerate(held_out)]
    assert len(columns(folders)) == 2
    task = {"name": "sequence_classification"}
    data = {"train": {"name": "files:a"}, "validation": {"name": "files:b"}}
    folders = [write(tmp_path / f"y{i}", [0.5], data=data, task=task, seed=i) for i in range(3)]
    assert len(columns(folders)) == 1
    for folder, key in zip(folders, ("k1", "k1", "k2"), strict=True):  # of one name, other files
        start = starts.describe("", "") | {"step": 0, "measured": key}
        starts.add(Path(folder), start)
    assert len(columns(folders)) == 2
    assert [row[1:] for row in runs.of_folders(folders).sheets[0].rows] == [
        ["0.500 ± 0.000 (2)", ""],
        ["", "0.500"],
    ]

"""An experiment in this process: weights scored as they are, and after a fine-tuning."""

import csv
import dataclasses
import json

import pytest

from research.checkpoints.reading import read_info
from research.config import from_values
from research.errors import UserError
from research.evaluation import predictor
from research.lab import experiment, record
from research.lab.record import Record
from research.lab.reports import page, report, results, runs, written
from research.lab.reports.sheets import Sheet, latex
from research.lab.workers import job
from research.monitoring import starts
from research.run import corpus
from research.run.loaded import load_model, with_config
from research.tasks.sequence_classification import SequenceClassificationConfig
from research.training import loop
from tests import helpers

EXPERIMENT = """
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

BASE, ASKED = {base!r}, {asked!r}
RUNS = {{
    "base": Run(BASE),
    "after": Run(ASKED, start="base"),
    "before": Run(ASKED, start="base", train=False),
}}


def get_experiment(arg=""):
    columns = {{
        "questions": Column(method="overlapping_sentence"),
        "exact match": Column("exact_match"),
    }}
    rows = {{side: dict.fromkeys(columns, side) for side in ("before", "after")}}
    table = Table(rows, columns, baseline="before")
    return Experiment("asked", RUNS, table=table, notes="What the data is.")
"""


def questions(path, count):
    lines = []
    for i in range(count):
        context = f"The town number {i} has a mill. It lies by a river."
        answer = {"text": ["a river"], "answer_start": [context.index("a river")]}
        question = "Where does it lie?"
        lines.append({"id": str(i), "context": context, "question": question, "answers": answer})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"name": f"files:{path}"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(experiment, jobs, folder) with every job done."""
    folder = tmp_path_factory.mktemp("asked")
    base = helpers.run_values("gpt", folder, steps=2, samples=1)
    base["model"] |= {"max_positions": 128}
    asked = {
        "tokenizer": {"kind": "checkpoint"},
        "data": {"length": 128, "train": questions(folder / "train.jsonl", 8)},
        "model": {"preset": "checkpoint"},
        "task": {
            "name": "text_generation",
            "kind": "question",
            "prompt": "{context} {question}",
            "completion": " {answer}",
            "max_new_tokens": 4,
        },
        "train": {"batch_size": 4, "steps": 2},
    }
    asked["data"]["validation"] = asked["data"]["test"] = questions(folder / "test.jsonl", 4)
    files = {}
    for name, values in (("base", base), ("asked", asked)):
        files[name] = str(folder / f"{name}.py")
        text = f"def get_config(arg=''):\n    return {values!r}\n"
        (folder / f"{name}.py").write_text(text)
    (folder / "experiment.py").write_text(EXPERIMENT.format(**files))
    loaded = experiment.load(str(folder / "experiment.py"))
    planned = experiment.jobs(loaded, folder / "runs")
    for one in planned:
        one.workdir.mkdir(parents=True)
        job.make(one, loaded.runs[one.run])
    return loaded, planned, folder / "runs"


def test_weights_that_are_not_trained_are_scored_as_they_are(made):
    _, planned, folder = made
    before = next(j for j in planned if j.run == "before")
    written = {starts.CONFIG, starts.FILE, record.BEGUN, record.DONE, record.SCORED}
    assert {p.name for p in before.workdir.iterdir()} == written
    assert Record.of(before).done["step"] == 0
    loaded = with_config(load_model(str(folder / "base-seed0")), before.config)
    examples = corpus.split(before.config.data, loaded.task.kind, "test").examples
    expected = predictor.predict(loaded, examples)
    assert [line["prediction"] for line in Record.of(before).scores] == expected


def collected(table, planned):
    return results.collect(table, list(map(Record.of, planned)))


def table_of(text, title):
    """The cells of the table under a heading."""
    lines = text.split(f"## {title}\n")[1].split("\n##")[0].splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]


def test_the_report_has_every_row_its_differences_and_a_prediction(made):
    found = report.of_experiment(*made)
    text = report.markdown(found)
    header, _, *rows = table_of(text, "Results")
    assert header == ["", "questions, f1 ↑", "exact match ↑"]
    assert [row[0] for row in rows] == ["simple method", "before", "after"]
    assert "(overlapping sentence)" in rows[0][1] and rows[0][2] == ""
    header, _, *lines = table_of(text, "Differences to “before”")
    assert [line[:2] for line in lines] == [["questions, f1", "after"], ["exact match", "after"]]
    assert all(line[3:] == ["", "", "", "one seed"] for line in lines), "both answer nothing right"
    assert "What the data is." in text
    assert "- **questions**\n  - before: Where does it lie?" in text
    assert text.count("after: Where does it lie?") == 1


def test_its_page_has_the_samples_and_what_the_curves_are_seen_beside(made):
    experiment_, planned, folder = made
    found = report.of_experiment(*made)
    (heading,) = set(found.texts) - {"One prediction of each"}
    assert found.texts[heading].startswith("- **base** at step 2\n  ")
    of_folders = runs.of_folders([str(folder / "base-seed0"), str(folder / "after-seed0")])
    assert of_folders.texts[heading].split("- ")[1] == found.texts[heading].split("- ")[1]
    assert heading in page.render(found)
    stages = {stage["name"]: stage for stage in found.curves["stages"]}
    assert list(stages) == ["pre-training", "text generation"]
    measure = collected(experiment_.table, planned).measures["questions"]
    reached = stages["text generation"]["levels"]["validation/f1"]
    assert reached == {"overlapping sentence": measure.on_validation}
    assert measure.on_validation == measure.simple, "of the same examples"
    assert [v["name"] for v in stages["text generation"]["variants"]] == ["after"], "trained"


def test_what_n_grams_reach_is_a_level_of_the_pretraining(made):
    experiment_, planned, _ = made
    found = report.of_experiment(dataclasses.replace(experiment_, pretraining=("base",)), *made[1:])
    shown = {row[2]: row[3] for row in found.sheets[0].rows}
    reached = found.curves["stages"][0]["levels"]
    value = reached["validation/bits_per_byte"]["bigram"]
    assert shown["bits per byte"] == f"{value:.4g} (bigram)"
    assert reached["validation/next_sentence_accuracy"] == {"chance": 0.5}


def test_each_source_of_a_pretraining_is_shown_beside_what_is_simple_there(made, monkeypatch):
    experiment_, planned, folder = made
    (source,) = {s.name for job in planned if job.run == "base" for s in job.config.data.corpus}
    alone = {source: {"bits_per_byte": 2.5}}
    read = Record.done.func
    monkeypatch.setattr(Record, "done", property(lambda self: read(self) | {"sources": alone}))
    chosen = dataclasses.replace(experiment_, pretraining=("base",))
    sheets = {sheet.name: sheet for sheet in report.of_experiment(chosen, planned, folder).sheets}
    (row,) = {tuple(row[1:]) for row in sheets["sources"].rows}
    whole = {row[2]: row[3] for row in sheets["pretraining"].rows}
    assert row == (source, "bits per byte", whole["bits per byte"], "2.5")  # there is no other


def test_the_report_is_written_in_all_formats(made, tmp_path):
    found = report.of_experiment(*made)
    files = written.write(found, tmp_path)
    assert sorted(file.name for file in files) == [
        "differences.csv",
        "differences.tex",
        "report.html",
        "report.md",
        "results.csv",
        "results.tex",
    ]
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.reader(file))
    header = ["row", "column", "metric", "method", "seeds", "mean", "sd", "values"]
    assert rows[0] == header and len(rows) == 1 + 1 + 2 * 2
    assert rows[1][:5] == ["simple method", "questions", "f1", "overlapping_sentence", ""]
    cell = collected(made[0].table, made[1]).cells["after", "exact match"]
    assert rows[-1][:5] == ["after", "exact match", "exact_match", "", "1"]
    assert float(rows[-1][5]) == float(rows[-1][7]) == cell.units[0] and rows[-1][6] == ""
    with open(tmp_path / "differences.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["column"]) for line in lines] == [
        ("after", "questions"),
        ("after", "exact match"),
    ]
    assert all(line["p"] == line["seeds_low"] == line["examples_low"] == "" for line in lines)
    before = collected(made[0].table, made[1]).cells["before", "questions"]
    assert lines[0]["method"] == "overlapping_sentence" and lines[1]["method_difference"] == ""
    reached = float(rows[1][5]) - before.units[0]
    assert float(lines[0]["method_difference"]) == pytest.approx(reached)
    tex = (tmp_path / "results.tex").read_text()
    assert r"\toprule" in tex and r"\uparrow" in tex and "↑" not in tex


def test_a_run_that_is_not_trained_needs_weights_and_a_task(made):
    loaded, planned, folder = made
    runs = {"base": loaded.runs["base"]}
    after = loaded.runs["after"]
    for values in ({"start": ""}, {"fresh": True}, {"config": runs["base"].config}):
        wrong = experiment.Run(**{"config": after.config, "start": "base", "train": False} | values)
        with pytest.raises(UserError, match="run 'x': train=False needs a"):
            experiment.jobs(experiment.Experiment("wrong", runs | {"x": wrong}), folder)


def test_weights_without_the_head_of_a_task_are_refused(made):
    loaded, planned, folder = made
    base = load_model(str(folder / "base-seed0"))
    classifier = SequenceClassificationConfig(labels=("a", "b"), pooling="last")
    asked = dataclasses.replace(planned[1].config, task=classifier)
    with pytest.raises(UserError, match="no head .*, which sequence_classification needs"):
        with_config(base, asked)


def test_a_report_of_what_is_done_so_far_says_what_is_not(made):
    loaded, planned, folder = made
    done = [one for one in planned if one.run != "after"]
    found = report.of_experiment(loaded, done, folder, left=1)
    text = report.markdown(found)
    assert "Not finished: 1 of 3 runs." in text
    _, _, *rows = table_of(text, "Results")
    assert [row[0] for row in rows] == ["simple method", "before", "after"]
    assert rows[1][1] and not rows[2][1]
    assert "## Differences" not in text


def test_the_runs_of_an_experiment_are_reported_by_their_folders_too(made):
    _, planned, _ = made
    after = next(one for one in planned if one.run == "after")
    found = runs.of_folders([str(after.workdir)])
    whole = collected(made[0].table, planned).cells["after", "exact match"].units[0]
    sheet = next(sheet for sheet in found.sheets if sheet.title == "Test split")
    row = dict(zip(sheet.header, sheet.rows[0], strict=True))
    assert row["exact match ↑"] == f"{whole:.3f}"
    assert "Where does it lie?" in found.texts["One prediction of each"]


def test_weights_that_were_scored_as_they_are_say_from_what_and_are_reported(made):
    _, planned, folder = made
    before = next(one for one in planned if one.run == "before")
    config = from_values(json.loads((before.workdir / starts.CONFIG).read_text()), to_run=False)
    assert config == before.config
    (start,) = starts.read(before.workdir)
    assert start["init_from"] == read_info(str(folder / "base-seed0")).fingerprint
    assert len(start["data"]) == 64
    found = runs.of_folders([str(one.workdir) for one in planned if one.run != "base"])
    sheet = next(sheet for sheet in found.sheets if sheet.title == "Test split")
    assert {row[0] for row in sheet.rows} == {"before", "after"} and all(map(all, sheet.rows))


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text.split("\n", 1)[1]])
def test_scores_that_are_damaged_are_named(made, damage):
    _, planned, _ = made
    after = next(one for one in planned if one.run == "after")
    file = after.workdir / record.SCORED
    whole = file.read_text()
    file.write_text(damage(whole))
    try:
        with pytest.raises(UserError, match=f"{record.SCORED} has 3 lines for 4 test examples"):
            collected(made[0].table, planned)
        file.write_text("{" + whole)
        with pytest.raises(UserError, match=f"{record.SCORED}, line 1 is damaged"):
            collected(made[0].table, planned)
    finally:
        file.write_text(whole)


def test_latex_does_not_take_a_bracket_for_an_argument_of_the_line_break():
    sheet = Sheet("t", ["", "x"], [["[MASK]", "1"], ["*", "2"], ["a [b]", "3"]])
    lines = [line.strip() for line in latex(sheet).splitlines() if "&" in line]
    assert [line.split("&")[0].strip() for line in lines[1:]] == ["{}[MASK]", "{}*", "a [b]"]


def test_a_run_notes_what_it_was_made_from_and_counts_the_time_before_a_stop(made, monkeypatch):
    loaded, planned, _ = made
    after = next(one for one in planned if one.run == "after")
    begun = json.loads((after.workdir / record.BEGUN).read_text())
    assert begun["made_from"] == dataclasses.asdict(loaded.runs["after"]) | {"seeds": [0]}
    assert begun["seconds"] == 0.0

    def stopped(*given, **named):
        raise loop.Interrupted(1)

    before = json.loads((after.workdir / record.DONE).read_text())["seconds"]
    with monkeypatch.context() as patch:
        patch.setattr(job.loop, "train", stopped)
        with pytest.raises(loop.Interrupted):
            job.make(after, loaded.runs["after"])
    begun = json.loads((after.workdir / record.BEGUN).read_text()) | {"seconds": 1000.0}
    (after.workdir / record.BEGUN).write_text(json.dumps(begun))
    job.make(after, loaded.runs["after"])
    assert 1000.0 < Record.of(after).done["seconds"] < 1000.0 + before + 600.0

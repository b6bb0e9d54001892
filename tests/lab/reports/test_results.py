"""The results of a table's runs, for people and for programs."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest

from research.data import sources
from research.data.sources import SourceConfig
from research.lab.reports import report
from research.lab.reports.results import Cell, Measure, by_document, compare, document_of
from research.lab.reports.sheets import text_csv
from research.lab.table import Column, Table
from research.metrics import answers
from research.metrics.jackknife import paired_jackknife

F1 = Measure("f1", False, "linear", 1 / 3)
LOSS = Measure("loss", True)


def compared(values, measures, baseline="a"):
    """Results of {(row, column): one value for each seed}."""
    cells = {
        place: Cell("run", {(seed,): value for seed, value in enumerate(found)}, [])
        for place, found in values.items()
    }
    rows: dict[str, dict[str, str]] = {}
    for row, column in values:
        rows.setdefault(row, {})[column] = "run"
    table = Table(rows, {name: Column() for name in measures}, baseline)
    return compare(table, cells, measures, {})


def read(sheet):
    return list(csv.DictReader(io.StringIO(text_csv(sheet))))


def test_the_csv_of_the_values_has_a_line_for_each_in_full():
    found = compared({("a", "x"): [0.1 + 0.2, 0.4], ("b", "x"): [1 / 7]}, {"x": F1})
    simple, two, one = read(report.values(found))
    assert simple["row"] == "simple method" and simple["method"] == "linear"
    assert float(simple["mean"]) == 1 / 3 and simple["seeds"] == simple["sd"] == ""
    assert (two["row"], two["column"], two["metric"], two["seeds"]) == ("a", "x", "f1", "2")
    assert [float(value) for value in two["values"].split(";")] == [0.1 + 0.2, 0.4]
    assert float(two["mean"]) == pytest.approx(0.35)
    assert float(two["sd"]) == np.std([0.1 + 0.2, 0.4], ddof=1)
    assert float(one["mean"]) == float(one["values"]) == 1 / 7 and one["sd"] == ""


def test_the_csv_of_the_differences_has_what_a_star_is_made_of():
    draw = np.random.default_rng(0)
    values = {(row, "x"): list(draw.normal(m, 0.1, 5)) for row, m in (("a", 0), ("b", 0.2))}
    values |= {("c", "x"): list(draw.normal(5, 0.1, 5)), ("d", "x"): [0.1, 0.2]}
    found = compared(values, {"x": LOSS})
    b, c, d = read(report.differences(found))
    for line in (b, c, d):
        expected = found.differences[line["row"], "x"]
        assert (line["baseline"], line["metric"], line["seeds"]) == (
            *("a", "loss"),
            str(expected.seeds[0]),
        )
        assert float(line["difference"]) == expected.value
        assert (float(line["seeds_low"]), float(line["seeds_high"])) == expected.over_seeds.interval
        assert float(line["seeds_p"]) == expected.over_seeds.p
        assert line["examples_low"] == line["examples_p"] == line["both_high"] == ""
    ps = sorted(float(line["p"]) for line in (b, c))
    assert sorted(float(line["p_holm"]) for line in (b, c)) == pytest.approx([2 * ps[0], ps[1]])
    assert c["significant"] == "True" and c["reading"] == "worse"
    assert d["p"] == d["p_holm"] == d["significant"] == "" and d["baseline_seeds"] == "5"


def test_columns_that_the_baseline_lacks_are_named():
    values = {("a", "x"): [0.1], ("b", "x"): [0.2], ("b", "my_loss"): [0.3]}
    sheet = report.differences(compared(values, {"x": F1, "my_loss": LOSS}))
    assert [row[1] for row in sheet.rows] == ["b"]
    start = "No differences in my loss: the baseline row “a” has no finished run there."
    assert sheet.note == f"{start} {report.INTERVALS}"
    values["a", "my_loss"] = [0.1]
    assert report.differences(compared(values, {"x": F1, "my_loss": LOSS})).note == report.INTERVALS


@pytest.mark.parametrize(
    ("name", "kind", "documents"),
    [
        ("named_entities/brown_test", "tokens", 44),
        ("question_answering/factbook_test", "question", 21),
        ("sentiment/customer_reviews_test", "classification", 1394),
    ],
)
def test_the_documents_of_the_bundled_sets(name, kind, documents):
    examples = sources.read(SourceConfig(f"bundled:{name}"), kind)
    assert len(set(map(document_of, examples))) == documents


def test_lines_of_files_are_documents_of_their_own(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text('{"tokens": ["a"], "tags": ["O"]}\n' * 3)
    examples = list(sources.read(SourceConfig(f"files:{file}"), "tokens"))
    assert len(set(map(document_of, examples))) == 3
    counts = [{"words": float(i)} for i in range(3)]
    assert by_document(counts, examples) == counts
    same = [{"id": "one", "tokens": ["a"], "tags": ["O"]}] * 3
    assert by_document(counts, same) == counts, "of one document nothing can be drawn"


def test_examples_of_a_document_are_drawn_together():
    draw = np.random.default_rng(0)
    examples = [{"id": f"{i}", "title": f"{i % 10}"} for i in range(400)]
    gains = draw.normal(0, 0.1, 10)[np.arange(400) % 10] + draw.normal(0, 0.01, 400)
    runs = [
        [{"questions": 1.0, "exact_match": 0.0, "f1": float(v)} for v in values]
        for values in (gains, np.zeros(400))
    ]
    cells = {
        (row, "x"): Cell("run", {(s,): value + s / 100 for s in range(5)}, [run])
        for row, run, value in zip(("b", "a"), runs, (gains.mean(), 0.0), strict=True)
    }
    table = Table({"a": {"x": "run"}, "b": {"x": "run"}}, {"x": Column()}, "a")
    tasks = {"x": (SimpleNamespace(compute_metrics=answers.compute), examples)}
    results = compare(table, cells, {"x": F1}, tasks)
    together = results.differences["b", "x"].over_examples
    alone = paired_jackknife([runs[0]], [runs[1]], answers.compute, "f1")
    assert together.difference == pytest.approx(alone.difference)
    assert together.error > 4 * alone.error
    (line,), (read_line,) = report.differences(results).rows, read(report.differences(results))
    assert line[3:6] == [report.interval(g) for g in results.differences["b", "x"].gaps]
    ps = [float(read_line[f"{kind}_p"]) for kind in ("seeds", "examples", "both")]
    assert float(read_line["p"]) == float(read_line["p_holm"]) == max(ps) == ps[2]
    assert line[6] == read_line["reading"] == "not resolved"

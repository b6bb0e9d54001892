"""Checks of an experiment's declaration before any run starts, and its results."""

import math
from pathlib import Path

import pytest

from research.errors import UserError
from research.lab import experiment
from research.lab.experiment import Experiment, Run, product
from research.lab.reports import statistics
from research.lab.reports.results import Cell
from research.lab.table import Column, Table
from tests import helpers


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Configs of a pre-training and a fine-tuning."""
    folder = tmp_path_factory.mktemp("configs")
    made = {}
    for kind in ("bert", "sentiment"):
        made[kind] = str(folder / f"{kind}.py")
        values = helpers.run_values(kind, folder, steps=2)
        (folder / f"{kind}.py").write_text(f"def get_config(arg=''):\n    return {values!r}\n")
    return made


def planned(files, table=None, **changes):
    runs = {
        "mlm": Run(files["bert"], seeds=(0, 1)),
        "nsp": Run(files["bert"]),
        "mlm-task": Run(files["sentiment"], start="mlm", seeds=(0, 1, 2)),
        "nsp-task": Run(files["sentiment"], start="nsp", seeds=(5, 6)),
        "scratch": Run(files["sentiment"], start="mlm", fresh=True, seeds=(0, 1)),
    }
    if table is not None and "fewer" in table.runs():
        runs["fewer"] = Run(files["bert"], {"train.eval_batches": 1})
    if table is not None and "other" in table.runs():
        changed = {"data.validation": "files:elsewhere.jsonl"}
        runs["other"] = Run(files["sentiment"], changed, start="mlm")
    return experiment.jobs(Experiment("made", runs | changes, table=table), Path("runs"))


def test_a_run_is_made_for_each_seed_of_the_run_that_it_starts_from(files):
    jobs = {job.workdir.name: job for job in planned(files)}
    assert [n for n in jobs if n.startswith("mlm-task")] == [
        f"mlm-task-seed{a}.{b}" for a in (0, 1) for b in (0, 1, 2)
    ]
    one = jobs["mlm-task-seed1.2"]
    assert one.after.name == "mlm-seed1" and one.config.init_from == "runs/mlm-seed1"
    assert one.config.seed == 2 and one.number == "1.2"
    # A start with one seed is not named; of new weights only the shape comes from the start.
    assert [n for n in jobs if n.startswith("nsp-task")] == ["nsp-task-seed5", "nsp-task-seed6"]
    assert jobs["nsp-task-seed6"].after.name == "nsp-seed0"
    assert [n for n in jobs if n.startswith("scratch")] == ["scratch-seed0", "scratch-seed1"]
    assert jobs["scratch-seed1"].after.name == "mlm-seed0"


GOOD = {"rows": {"a": {"x": "mlm-task"}}, "columns": {"x": Column()}, "baseline": "a"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "b"}, "compares with 'b', which is not a row"),
        ({"columns": {"x": Column(), "y": Column()}}, "column 'y': no row has a run there"),
        (
            {
                "rows": {"a": {"y": "mlm-task"}, "b": {"x": "mlm-task"}},
                "columns": {"x": Column(), "y": Column()},
            },
            "compares with 'a', which has no run in any column of the other rows: x",
        ),
        ({"columns": {"x": Column("accuracy/a")}}, "'mlm-task' does not yield 'accuracy/a'"),
        (
            {"rows": {"a": {"x": "mlm-task"}, "b": {"x": "other"}}},
            "column 'x': its runs are not measured on the same test examples",
        ),
        ({"rows": {"a": {"y": "mlm-task"}}}, "row 'a': no column 'y'; valid: x"),
        ({"rows": {"a": {"x": "mlm-tasks"}}}, "no run 'mlm-tasks'; did you mean 'mlm-task'"),
        ({"columns": {"x": Column("macro_recal")}}, "'mlm-task' does not yield 'macro_recal'; did"),
        ({"columns": {"x": Column(method="linaer")}}, "no simple method 'linaer'; did you mean"),
        (
            {"columns": {"x": Column(method="frequent_tag")}},
            "'frequent_tag' is not for the task of 'mlm-task'; those that are: linear, linear_svm",
        ),
        (
            {
                "rows": {"a": {"x": "mlm"}, "b": {"x": "fewer"}},
                "columns": {"x": Column("masked_accuracy")},
            },
            "column 'x': its runs are not measured on the same held-out text: .*eval_batches=1",
        ),
        ({"rows": {"a": {"x": "mlm"}}}, "'mlm' is a pre-training, whose column needs a metric"),
        (
            {"rows": {"a": {"x": "mlm"}}, "columns": {"x": Column("perplexity")}},
            "'mlm' does not yield 'perplexity'; did you mean 'masked_perplexity'",
        ),
    ],
)
def test_a_table_that_cannot_be_made_is_found_at_once(files, changes, message):
    with pytest.raises(UserError, match=message):
        planned(files, Table(**(GOOD | changes)))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"start": "mml"}, "'mml', which is neither a run nor a folder; did you mean 'mlm'"),
        ({"start": "x"}, "runs start from each other: x -> x"),
        ({"seeds": (1, 1)}, r"seeds=\(1, 1\) must be one or more different"),
        ({"seeds": ()}, r"seeds=\(\) must be"),
        ({"overrides": {"train.stepps": 3}}, "run 'x': config.train.stepps is not a key; did you"),
    ],
)
def test_a_run_that_cannot_be_made_is_found_at_once(files, run, message):
    with pytest.raises(UserError, match=message):
        planned(files, x=Run(**({"config": files["bert"]} | run)))


def test_a_column_may_measure_a_pretraining(files):
    table = Table(**(GOOD | {"rows": {"a": {"x": "mlm"}}, "columns": {"x": Column("masked_loss")}}))
    assert len(planned(files, table)) == 2 + 1 + 6 + 2 + 2


def test_another_format_of_rows_is_another_pretraining(files, monkeypatch, tmp_path):
    made = {"made": Run(files["bert"])}
    (one,) = experiment.jobs(Experiment("one", made), tmp_path)
    before = experiment.fingerprint(one)
    assert experiment.fingerprint(one) == before
    monkeypatch.setattr(experiment.plan, "FORMAT", 1000)
    assert experiment.fingerprint(one) != before


def test_product_has_all_combinations_and_refuses_two_values():
    rates = {"15": {"rate": 0.15}, "30": {"rate": 0.3}}
    kinds = {"token": {}, "span": {"unit": "span"}}
    assert product(rates, kinds) == {
        "15-token": {"rate": 0.15},
        "15-span": {"rate": 0.15, "unit": "span"},
        "30-token": {"rate": 0.3},
        "30-span": {"rate": 0.3, "unit": "span"},
    }
    with pytest.raises(UserError, match="'15' and 'b' both override rate"):
        product(rates, {"b": {"rate": 0.5}})


def test_fine_tunings_from_one_pretraining_are_one_value():
    values = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 6.0, (1, 1): 8.0}
    assert Cell("r", values, []).units == [2.0, 7.0]
    assert Cell("r", values, []).deviation == pytest.approx(5 / math.sqrt(2))
    # A pre-training that has itself begun with another one is one value of the first one's seed.
    chained = {(0, 0, 0): 1.0, (0, 1, 0): 3.0, (1, 0, 0): 6.0, (1, 1, 0): 8.0}
    assert Cell("r", chained, []).units == [2.0, 7.0]
    # Without seeds of a pre-training the fine-tunings' are counted.
    assert Cell("r", {(0,): 1.0, (1,): 3.0}, []).units == [1.0, 3.0]
    assert Cell("r", {(0,): 1.0}, []).deviation is None


def test_seeds_of_fine_tunings_do_not_tell_two_pretrainings_apart():
    values = {(seed,): seed / 10 for seed in range(5)}
    one, same, other = (
        Cell(n, values, [], frozenset({s})) for n, s in (("1", "a"), ("2", "a"), ("3", "b"))
    )
    fresh, several = Cell("4", values, []), Cell("5", values, [], frozenset("cdefg"))
    assert one.beside(same) == same.beside(one) == list(values.values())
    assert one.beside(other) == other.beside(one) == [pytest.approx(0.2)]
    assert statistics.difference(one.beside(other), other.beside(one)).over_seeds is None
    # New weights are drawn by the seed; several pre-trainings are what is counted.
    assert one.beside(fresh) == fresh.beside(one) == list(values.values())
    assert one.beside(several) == [pytest.approx(0.2)]
    assert several.beside(one) == list(values.values())


def test_parts_of_a_metric(files):
    """Parts follow the labels; a misspelt "f1/PERS" would otherwise fail only after all runs."""
    tags = {"name": "token_classification", "labels": ("O", "B-PER", "I-PER")}
    runs = {"x": Run(files["sentiment"], {"task": tags}, start="mlm")}
    for metric in ("f1", "f1/PER"):
        planned(files, Table({"a": {"x": "x"}}, {"x": Column(metric)}), **runs)
    with pytest.raises(UserError, match="does not yield 'f1/PERS'; did you mean 'f1/PER'"):
        planned(files, Table({"a": {"x": "x"}}, {"x": Column("f1/PERS")}), **runs)

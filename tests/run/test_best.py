"""The best checkpoint by a metric, early stopping, the length of a run; they survive a resume."""

import json
import shutil

import pytest

from research import cli
from research import config as configs
from research.checkpoints.reading import read_info
from research.errors import UserError
from research.run.best import Best, check, from_meta
from research.run.run import build
from research.training import loop
from tests import helpers


def test_the_best_is_followed_through_evaluations():
    best = Best("loss")
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5), (4, 2.0)):
        best = best.after(step, {"loss": loss})
    assert best == Best("loss", 2.0, 2, since=2)
    best = Best("macro_recall")
    for step, value in ((1, 0.3), (2, 0.5), (3, 0.4)):
        best = best.after(step, {"macro_recall": value})
    assert best == Best("macro_recall", 0.5, 2, since=1)
    assert from_meta("macro_recall", {"best": best.to_json()}) == best
    assert from_meta("f1", {"best": best.to_json()}) == Best("f1")
    assert Best("").after(1, {}) == Best("")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lossy", 0, True), "config.train.best='lossy' is not a metric here; did you mean 'loss'"),
        (("", 2, True), "config.train.patience=2 needs config.train.best"),
        (("loss", 2, False), "config.train.eval_every"),
    ],
)
def test_what_cannot_be_is_named(arguments, said):
    with pytest.raises(UserError, match=said):
        check(*arguments, known=["loss", "label_accuracy"])


class Scripted:
    """Evaluations that give the losses of a list."""

    def __init__(self, monkeypatch, losses):
        self.losses = losses
        monkeypatch.setattr(loop.validation, "metrics", self)

    def __call__(self, run, params, *_):
        return {"loss": self.losses.pop(0)}


@pytest.fixture
def values(tmp_path):
    train = {"steps": 10, "eval_every": 1, "best": "loss", "patience": 3, "keep": 1}
    return helpers.run_values("gpt", tmp_path, **train, checkpoint_every=1)


LOSSES = [5.0, 4.0, 4.5, 4.4, 4.3, 1.0, 1.0, 1.0]


def steps_on_disk(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdecimal())


def test_a_run_stops_when_nothing_gets_better_and_keeps_the_best(values, tmp_path, monkeypatch):
    Scripted(monkeypatch, list(LOSSES))
    config = configs.from_values(values)
    result = loop.train(config, str(tmp_path / "run"), quiet=True)
    assert (result.step, result.best.step, result.best.value) == (5, 2, 4.0)
    assert steps_on_disk(tmp_path / "run") == [2, 5]
    assert read_info(str(tmp_path / "run" / "best")).step == 2
    assert read_info(str(tmp_path / "run")).step == 5
    again = loop.train(config, str(tmp_path / "run"), quiet=True)
    assert again.step == 5 and again.best == result.best


def test_patience_and_best_survive_a_resume(values, tmp_path, monkeypatch):
    """Stopped after four steps and resumed, the run ends where the whole one does."""

    class Interrupting(Scripted):
        def __call__(self, run, params, *_):
            if len(self.losses) == 5:
                raise KeyboardInterrupt
            return super().__call__(run, params)

    Interrupting(monkeypatch, list(LOSSES))
    config = configs.from_values(values)
    with pytest.raises(KeyboardInterrupt):
        loop.train(config, str(tmp_path / "run"), quiet=True)
    assert steps_on_disk(tmp_path / "run") == [2, 3]
    Scripted(monkeypatch, LOSSES[3:])
    result = loop.train(config, str(tmp_path / "run"), quiet=True)
    assert (result.step, result.best) == (5, Best("loss", 4.0, 2, since=3))
    assert steps_on_disk(tmp_path / "run") == [2, 5]


def test_the_best_by_any_metric_of_the_task(tmp_path, capsys):
    values = helpers.run_values("sentiment", tmp_path, steps=3, eval_every=1, best="macro_f1")
    result = loop.train(configs.from_values(values), str(tmp_path / "run"), quiet=True)
    assert result.metrics["macro_f1"] <= result.best.value and "macro_recall" in result.metrics
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    found = [row["validation/macro_f1"] for row in logged if "validation/macro_f1" in row]
    assert len(found) == 3 and all(0 <= value <= 1 for value in found)
    best = read_info(str(tmp_path / "run" / "best"))
    assert found[best.step - 1] == max(found) == best.meta["best"]["value"]
    assert cli.main(["evaluate", f"--checkpoint={tmp_path}/run/best"]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["macro_f1", f"{max(found):.4f}"] in shown


def test_a_metric_that_is_not_known_is_found_before_training(tmp_path):
    values = helpers.run_values("sentiment", tmp_path, steps=2, eval_every=1, best="macro_recal")
    with pytest.raises(UserError, match="did you mean 'macro_recall'"):
        loop.train(configs.from_values(values), str(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "train", "steps"),
    [("sentiment", {"examples": 80}, 3), ("gpt", {"tokens": 40 * helpers.LENGTH}, 3)],
)
def test_the_length_of_a_run_in_what_a_batch_counts(tmp_path, kind, train, steps):
    values = helpers.run_values(kind, tmp_path, **train)
    assert build(configs.from_values(values), quiet=True).steps == steps


def test_evaluations_by_the_epoch(tmp_path):
    values = helpers.run_values("sentiment", tmp_path, epochs=2.0, eval_epochs=0.5)
    run = build(configs.from_values(values), quiet=True)
    assert (run.steps, run.eval_every) == (4, 1)


@pytest.mark.parametrize(
    ("kind", "train", "said"),
    [
        ("gpt", {"examples": 10}, "config.train.examples=10 is the length of a task"),
        ("sentiment", {"tokens": 10}, "config.train.tokens=10 is the length of a pre-training"),
        ("gpt", {"steps": 2, "tokens": 10}, "give one of"),
        ("gpt", {}, "give one of config.train.steps=0, config.train.epochs=0.0 and"),
        ("gpt", {"steps": 2, "eval_every": 1, "eval_epochs": 1.0}, "not both"),
    ],
)
def test_lengths_that_do_not_fit(tmp_path, kind, train, said):
    with pytest.raises(UserError, match=said):
        configs.from_values(helpers.run_values(kind, tmp_path, **train))


def test_an_older_folder_is_not_taken_for_a_run(tmp_path):
    shutil.rmtree(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_info(str(tmp_path / "best"))

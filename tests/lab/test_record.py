"""What a run's folder says of it."""

import json
from types import SimpleNamespace

import pytest

from research.errors import UserError
from research.evaluation import predictor
from research.lab.record import SCORED, Record
from research.lab.workers import job
from research.metrics import classification
from research.run import corpus


def test_scores_of_labels_come_back_as_they_were_counted(tmp_path, monkeypatch):
    golds, labels = ("good", "bad"), ("good", "good")
    split = SimpleNamespace(examples=[{"label": label} for label in golds])
    monkeypatch.setattr(corpus, "split", lambda *_: split)
    monkeypatch.setattr(predictor, "predict", lambda *_: [{"label": label} for label in labels])
    task = SimpleNamespace(
        kind="classification",
        counts=lambda example, answer: classification.count(example["label"], answer["label"]),
    )
    planned = SimpleNamespace(workdir=tmp_path, config=SimpleNamespace(data=None))
    job._score(planned, SimpleNamespace(task=task))
    scores = Record(tmp_path, "run").scores
    assert [line["counts"] for line in scores] == [{("good", "good"): 1}, {("bad", "good"): 1}]
    assert [line["prediction"] for line in scores] == [{"label": "good"}, {"label": "good"}]


def test_scores_with_damaged_counts(tmp_path):
    for counts in (["a"], {"[": 1.0}, 3):
        line = {"prediction": {}, "counts": counts}
        (tmp_path / SCORED).write_text(json.dumps(line) + "\n")
        with pytest.raises(UserError, match=f"{SCORED} is damaged: counts"):
            _ = Record(tmp_path, "run").scores

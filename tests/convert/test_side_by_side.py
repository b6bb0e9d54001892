"""The fine-tuning benchmark: with a learning rate of 0, both sides answer as the weights do."""

import json

import pytest

from benchmarks import finetune
from research.convert import importer
from tests.convert.test_live import PYTHON
from tests.convert.test_parity import GOLDEN

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.exists(), reason="make reference-setup has not been run"),
]
LABELS = ("O", "B-LOC", "I-LOC")  # those of the weights
EXPERIMENT = """
from research.lab.experiment import Experiment, Run
from research.lab.table import Column, Table

TABLE = Table({{"here": {{"task": "task"}}}}, {{"task": Column()}})


def get_experiment(arg=""):
    runs = {{"task": Run({config!r}, start={start!r})}}
    return Experiment("side", runs, table=TABLE)
"""
WORDS = ["w1", "w2", "w3", "w4", "w5", "w6", "w7"]


def classified(i):
    return {"text": " ".join(WORDS[i % 3 : i % 3 + 4]), "label": LABELS[i % 3]}


def tagged(i):
    words = WORDS[i % 3 : i % 3 + 4]
    return {"tokens": words, "tags": ["O", "B-LOC", "I-LOC", "O"]}


def asked(i):
    # Short enough for one window: of several, the plain loop takes any, and we the one with most
    # context around the answer.
    context = " ".join((WORDS[i % 5 :] + WORDS)[:8])
    word = context.split()[i % 8]
    answers = {"text": [word], "answer_start": [context.index(word)]}
    return {"question": f"w{1 + i % 4}", "context": context, "answers": answers}


KINDS = {
    "BertForSequenceClassification": (
        classified,
        {"name": "sequence_classification", "labels": LABELS},
    ),
    "BertForTokenClassification": (tagged, {"name": "token_classification", "labels": LABELS}),
    "BertForQuestionAnswering": (asked, {"name": "span_qa", "stride": 4, "max_question": 2}),
}


@pytest.mark.parametrize("name", KINDS)
def test_both_sides_predict_the_same(name, tmp_path):
    make, task = KINDS[name]
    importer.save(importer.read(str(GOLDEN / name)), str(tmp_path / "start"))
    sources = {}
    for split, count in (("train", 8), ("test", 24)):
        file = tmp_path / f"{split}.jsonl"
        file.write_text("".join(json.dumps(make(i)) + "\n" for i in range(count)))
        sources[split] = {"name": f"files:{file}"}
    config = {
        "tokenizer": {"kind": "checkpoint"},
        "model": {"preset": "checkpoint", "dropout": 0.0, "attention_dropout": 0.0},
        "data": sources | {"validation": sources["test"], "length": 14},
        "task": task,
        "optimizer": {"learning_rate": 1e-12},
        "train": {"batch_size": 4, "epochs": 1.0},
    }
    (tmp_path / "config.py").write_text(f'def get_config(arg=""):\n    return {config!r}\n')
    given = {"config": str(tmp_path / "config.py"), "start": str(tmp_path / "start")}
    (tmp_path / "experiment.py").write_text(EXPERIMENT.format(**given))
    done = finetune.run(
        str(tmp_path / "experiment.py"), str(GOLDEN / name), str(tmp_path / "runs"), str(PYTHON)
    )
    assert done == 0
    ours = [json.loads(x) for x in (tmp_path / "runs/task-seed0/test.jsonl").open()]
    theirs = json.loads((tmp_path / "runs/torch-seed0.json").read_text())["predictions"]
    key = {"span_qa": "answer", "token_classification": "tags"}.get(task["name"], "label")
    found = [line["prediction"][key] for line in ours]
    assert found == [answer[key] for answer in theirs]
    if name != "BertForSequenceClassification":  # whose drawn weights prefer one label
        assert len({json.dumps(one) for one in found}) > 1

"""`launch.py config`: every key with its value, its default, its origin and its meaning."""

import re
from pathlib import Path

import pytest

from research import cli

FILE = """from ml_collections import ConfigDict

STEPS = 7


def get_config(arg=""):
    model = dict(preset="bert_mini")
    model["dropout"] = 0.2
    config = ConfigDict(
        dict(
            model=model,
            data=dict(corpus=("bundled:corpus/brown", dict(name="files:a.txt", take=3))),
            objective=dict(masked_lm={"rate": 0.2}),
            train=dict(batch_size=640, steps=STEPS),
        )
    )
    config.train.keep = 1
    return config
"""
SHOWN = {
    "train.keep": "1  ({file}:17, default 2)",
    "train.steps": "0  (command line, default)",
    "train.epochs": "2.0  (command line, default 0.0)",
    "train.log_every": "20  (default)",
    "train.batch_size": "640  ({file}:14, default 4096)",
    "model.preset": "'bert_mini'  ({file}:7, default '')",
    "model.dropout": "0.2  ({file}:8, default 0.0)",
    "model.layers": "4  (preset bert_mini, default 2)",
    "model.norm": "'layernorm'  (default)",
    "objective.masked_lm.rate": "0.2  ({file}:13, default 0.15)",
    "objective.masked_lm.unit": "'word'  (command line, default 'token')",
    "objective.next_sentence": "None  (default)",
    "data.corpus": "['bundled:corpus/brown', {{'name': 'files:a.txt', 'take': 3}}]"
    "  ({file}:12, default [])",
    "task": "None  (default)",
}


def shown(capsys, *arguments: str) -> str:
    assert cli.main(["config", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def file(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    return "mine.py"


def test_each_key_says_where_its_value_is_from(file, capsys):
    overrides = ["--config.train.epochs=2", "--config.objective.masked_lm.unit=word"]
    text = shown(capsys, f"--config={file}", *overrides)
    assert max(map(len, text.splitlines())) <= 100
    # A long line goes on in the next one.
    lines = re.sub(r"\n {4}(?! )", " ", text).splitlines()
    values = dict(line.split(" = ", 1) for line in lines if not line.startswith(" "))
    for key, expected in SHOWN.items():
        assert " ".join(values[key].split()) == " ".join(expected.format(file=file).split()), key
    assert "\n      micro-batches of a step, and parts of an evaluation's batch" in text
    assert "One of layernorm, rmsnorm." in text and "cannot run" not in text


def test_a_word_picks_keys_by_name_or_meaning(file, capsys):
    keys = re.findall(r"^(\S+) = ", shown(capsys, f"--config={file}", "Warm"), re.MULTILINE)
    assert keys == ["optimizer.schedule", "optimizer.warmup"]
    keys = re.findall(r"^(\S+) = ", shown(capsys, f"--config={file}", "lr"), re.MULTILINE)
    assert keys == ["optimizer.learning_rate"], "by the name that it has elsewhere"
    assert cli.main(["config", f"--config={file}", "wram"]) == 2
    assert "no key has 'wram' in its name or its meaning" in capsys.readouterr().err


def test_a_config_that_lacks_something_is_shown_too(capsys):
    text = shown(capsys, "--config=configs/finetune/sentiment.py")
    assert "\nmodel.width = the checkpoint's  (preset checkpoint, default 128)\n" in text
    assert re.search(r"^task\.labels = \['negative', 'neutral', .*, no default\)$", text, re.M)
    assert re.search(r"^data\.test = .*configs/finetune/sentiment\.py:26", text, re.M | re.S)
    assert "\nit cannot run yet: config.model.preset='checkpoint' takes" in text

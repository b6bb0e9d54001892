"""Splits of tasks: shared fields, labels from the file, and the lines for people."""

import dataclasses
import json

import pytest

from research import config as configs
from research.errors import UserError
from research.run import corpus
from research.tasks import kind_of, make_task
from tests import helpers


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"files:{path}"


def config(name="sequence_classification", task=None, **data):
    values = {"data": {"length": 48, **data}, "train": {"steps": 1}}
    return configs.from_values(values | {"task": {"name": name, **(task or {"labels": "auto"})}})


def split(config, name):
    return corpus.split(config.data, kind_of(config.task), name)


REVIEWS = [{"review": f"Nam {i}", "stars": i % 3, "text": "not this"} for i in range(12)]
FIELDS = {"text": "review", "label": "stars"}


def test_fields_and_names_of_the_training_hold_for_the_other_splits(tmp_path):
    names = ["bad", "mixed", "good"]
    train = {"name": write(tmp_path / "a.jsonl", REVIEWS), "fields": FIELDS, "label_names": names}
    ours = write(tmp_path / "b.jsonl", [{"text": "ite", "label": 2}])
    own = {"name": ours, "fields": {"text": "text"}}
    for validation, text in ((train["name"], "Nam 0"), (ours, "ite"), (own, "ite")):
        found = split(config(train=train, validation=validation), "validation").examples[0]
        assert found["text"] == text and found["label"] in names
    strict = {"name": ours, "fields": FIELDS}
    with pytest.raises(UserError, match="no field 'review'"):
        split(config(train=train, validation=strict), "validation")


def test_labels_are_those_of_the_training_examples_in_order(tmp_path):
    train = {"name": write(tmp_path / "a.jsonl", REVIEWS), "fields": FIELDS}
    asked = config(train=train, validation=train)
    assert corpus.with_labels(asked).task.labels == ("0", "1", "2")
    named = config(train=train | {"label_names": ["c", "b", "a", "never"]}, validation=train)
    assert corpus.with_labels(named).task.labels == ("c", "b", "a", "never")
    tagged = [{"tokens": ["a", "b"], "tags": ["B-LOC", "O"]}, {"tokens": ["c"], "tags": ["B-ORG"]}]
    name = write(tmp_path / "t.jsonl", tagged)
    found = corpus.with_labels(config("token_classification", train=name, validation=name))
    assert found.task.labels == ("B-LOC", "B-ORG", "O")
    several = write(tmp_path / "m.jsonl", [{"text": "a", "labels": ["y", "x"]}])
    found = corpus.with_labels(config("multi_label", train=several, validation=several))
    assert found.task.labels == ("x", "y")
    other = [{"text": f"a {i}", "label": f"title {i}"} for i in range(40)]
    wrong = write(tmp_path / "w.jsonl", other)
    with pytest.raises(UserError, match="40 different labels in 40 examples"):
        corpus.with_labels(config(train=wrong, validation=wrong))
    with pytest.raises(UserError, match="labels=auto are read from the training examples"):
        make_task(asked.task, helpers.bert(), helpers.word_pieces(), 48, 4)


def test_a_label_that_the_training_lacks_names_file_and_row(tmp_path):
    train = write(tmp_path / "a.jsonl", [{"text": "a", "label": x} for x in "xyxy"])
    other = write(tmp_path / "b.jsonl", [{"text": "a", "label": x} for x in "xz"])
    found = corpus.with_labels(config(train=train, validation=other))
    found = dataclasses.replace(found, task=dataclasses.replace(found.task, pooling="first"))
    task = make_task(found.task, helpers.bert(), helpers.word_pieces(), 48, 4)
    corpus.task_segments(task, split(found, "train"))
    with pytest.raises(UserError) as caught:
        corpus.task_segments(task, split(found, "validation"))
    assert f"config.data.validation={other}: {tmp_path}/b.jsonl, line 2: " in str(caught.value)
    assert "label 'z' is not one of config.task.labels" in str(caught.value)


def test_a_held_out_share_and_the_rest_are_the_whole(tmp_path):
    rows = [{"text": f"Nam {i}", "label": "xy"[i % 2]} for i in range(200)]
    name = write(tmp_path / "a.jsonl", rows)
    found = config(train=name, validation="held_out:10")
    train, held_out = (split(found, name) for name in ("train", "validation"))
    texts = [{e["text"] for e in part.examples} for part in (train, held_out)]
    assert len(texts[0] | texts[1]) == 200 and not texts[0] & texts[1]
    assert 5 <= len(texts[1]) <= 40
    few = write(tmp_path / "b.jsonl", rows[:2])
    with pytest.raises(UserError, match=r"none of its 2 examples is left: part \(\[0.0, 0.1\]\)"):
        split(config(train=few, validation="held_out:0.1"), "validation")


def test_what_was_understood_is_told(tmp_path):
    rows = [*REVIEWS, {"review": "", "stars": 1}]
    train = {"name": write(tmp_path / "a.jsonl", rows), "fields": FIELDS}
    lines = split(config(train=train, validation=train), "train").lines()
    assert lines == [
        "read: review as text, stars as label",
        "labels: 0 4, 1 4, 2 4",
        f"left out: 1 row, text is empty ({tmp_path}/a.jsonl, line 13)",
    ]


def test_answers_that_are_plain_texts(tmp_path):
    """An extracted answer must occur once in its context; a generated one may be any text."""
    rows = [{"question": "Who?", "context": "Nam ite, ite sen.", "answers": "sen"}]
    name = write(tmp_path / "q.jsonl", rows)
    keys = {"train": name, "validation": name}
    found = config("span_qa", {"stride": 8, "max_question": 8}, **keys)
    task = make_task(found.task, helpers.bert(), helpers.word_pieces(), 48, 4)
    (segments,) = corpus.task_segments(task, split(found, "train"))
    assert segments[0].labels["start"] > 0
    for answer, said in (("ite", "occurs 2 times in"), ("mol", "does not occur in")):
        write(tmp_path / "q.jsonl", [rows[0] | {"answers": answer}])
        with pytest.raises(UserError, match=rf"q.jsonl, line 1: .*{answer!r}.*{said}.*start"):
            corpus.task_segments(task, split(found, "train"))
    templates = {"kind": "question", "prompt": "{question}", "completion": "{answer}"}
    found = config("text_generation", templates | {"overlap": 8, "max_new_tokens": 8}, **keys)
    model = helpers.bert(vocab_size=helpers.byte_pairs().vocab_size)
    task = make_task(found.task, model, helpers.byte_pairs(), 48, 4)
    (segments,) = corpus.task_segments(task, split(found, "train"))
    learnt = segments[0].targets[segments[0].target_weights > 0]
    assert helpers.byte_pairs().decode(learnt) == "mol"
    # An Alpaca row, whose input may be empty.
    alpaca = {"instruction": "Name a colour.", "input": "", "output": "Blue."}
    name = write(tmp_path / "alpaca.jsonl", [alpaca])
    fields = {"question": "instruction", "context": "input", "answers": "output"}
    found = dataclasses.replace(found, data=config(
        train={"name": name, "fields": fields}, validation=name).data)  # fmt: skip
    (segments,) = corpus.task_segments(task, split(found, "validation"))
    learnt = segments[0].targets[segments[0].target_weights > 0]
    assert helpers.byte_pairs().decode(learnt) == "Blue."

"""Texts that a run writes down with what its weights make of them."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from research.config import from_values
from research.training import loop
from tests import helpers

STEPS = 4
# kind -> what each line has, whatever the weights
MARKS = {"bert": "(it was: ", "gpt": " → ", "sentiment": " → "}


def texts(workdir):
    lines = (workdir / "texts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k == "bert" else [pytest.mark.long]) for k in MARKS]
)
def test_each_evaluation_writes_what_the_weights_make_of_held_out_texts(kind, tmp_path):
    values = helpers.run_values(kind, tmp_path, steps=STEPS, eval_every=2, samples=2)
    if kind == "bert":  # a single text is enough: it is cut into documents, some of them held out
        draw = helpers.generator("book")
        book = "\n\n".join(helpers.document(draw, 2) for _ in range(60))
        (tmp_path / "book.txt").write_text(book)
        values["data"]["corpus"] = [f"files:{tmp_path}/book.txt"]
    loop.train(from_values(values, "test"), str(tmp_path / "run"), quiet=True)
    found = texts(tmp_path / "run")
    assert [(line["name"], line["step"]) for line in found] == [("samples", 2), ("samples", 4)]
    for line in found:
        items = line["text"].splitlines()
        assert len(items) == 2 and all(item.startswith("- ") for item in items)
        assert all(MARKS[kind] in item for item in items)
    events = EventAccumulator(str(tmp_path / "run/tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    shown = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("samples")]
    assert shown == [line["text"] for line in found]


@pytest.mark.long
def test_a_run_that_goes_on_has_each_text_once(tmp_path, monkeypatch):
    values = helpers.run_values("sentiment", tmp_path, steps=STEPS, eval_every=2, samples=2)
    values["train"]["checkpoint_every"] = 3
    config = from_values(values, "test")
    loop.train(config, str(tmp_path / "whole"), quiet=True)
    whole = texts(tmp_path / "whole")
    # Back to step 3, with what was written at 4 still in the file.
    checkpoints = tmp_path / "whole/checkpoints"
    for step in checkpoints.glob("*4"):
        step.rename(tmp_path / "aside")
    loop.train(config, str(tmp_path / "whole"), quiet=True)
    assert texts(tmp_path / "whole") == whole

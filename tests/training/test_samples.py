"""Samples that a run writes: texts and the model's outputs for them."""

import dataclasses
import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from research.config import from_values
from research.evaluation import predictor, validation
from research.metrics.counts import total
from research.run import corpus
from research.run.loaded import load_model
from research.training import loop
from tests import helpers
from tests.integration.conftest import make

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
def test_metrics_of_a_task_that_generates_are_those_of_its_samples(tmp_path):
    """Of the texts that `predict` writes for the same examples with the same weights."""
    values = make(tmp_path, "document").values
    values["train"] |= {"samples": 2, "steps": 2, "eval_every": 1}
    config, workdir = from_values(values, "test"), str(tmp_path / "trained")
    result = loop.train(config, workdir, quiet=True)
    loaded = load_model(workdir)
    examples = corpus.split(loaded.config.data, loaded.task.kind, "validation").examples[:2]
    counts = total(map(loaded.task.counts, examples, predictor.predict(loaded, examples)))
    right = {
        f"sampled_{name}": value for name, value in loaded.task.compute_metrics(counts).items()
    }
    sampled = {name: v for name, v in result.metrics.items() if name.startswith("sampled_")}
    assert sampled == pytest.approx(right) and "sampled_exact_match" in sampled
    assert set(validation.known(config)) >= sampled.keys()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, samples=0))
    assert not set(validation.known(config)) & sampled.keys()


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

"""Checkpoints list the texts that their weights have read, over all runs in a row."""

import json

import numpy as np
import pytest

from research.checkpoints import lineage
from research.checkpoints.checkpoint import write_checkpoint
from research.checkpoints.reading import read_info
from research.config import from_values, to_values
from research.data import kinds, sources
from research.errors import UserError
from tests import helpers


def save(config, folder):
    """A checkpoint with the lineage that a run of this config writes."""
    params = {"backbone": {"kernel": np.zeros(2, np.float32)}}
    meta = {lineage.READ: lineage.of_run(config)}
    write_checkpoint(str(folder / "checkpoints"), 1, params, to_values(config), "{}", meta)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A pre-training, and a fine-tuning that has started from it."""
    folder = tmp_path_factory.mktemp("chain")
    save(helpers.run_config("bert", folder, steps=1), folder / "first")
    second = helpers.run_values("sentiment", folder, steps=1)
    save(from_values(second | {"init_from": str(folder / "first")}), folder / "second")
    return folder


def test_a_checkpoint_says_what_its_weights_have_read(chain):
    first, second = (
        read_info(str(chain / name)).meta[lineage.READ] for name in ("first", "second")
    )
    assert [entry["source"]["name"] for entry in first] == [f"files:{chain}/corpus.jsonl"]
    assert second[:1] == first
    assert [entry["source"]["name"] for entry in second[1:]] == [f"files:{chain}/train.jsonl"]
    # What was held out was not read.
    documents = list(sources.read(sources.SourceConfig(first[0]["source"]["name"]), "document"))
    wanted = [d["text"] for d in documents if not sources.held_out(d["id"], 20.0)]
    assert list(lineage.texts(first[0])) == wanted and len(wanted) < len(documents)
    reviews = sources.read(sources.SourceConfig(f"files:{chain}/train.jsonl"), "classification")
    assert list(lineage.texts(second[1])) == [t for e in reviews for t in kinds.texts(e)]


def test_a_run_that_starts_fresh_has_read_nothing_before(chain):
    values = read_info(str(chain / "second")).config
    again = from_values(values | {"init": "fresh"})
    assert lineage.of_start(again) == []
    assert lineage.of_run(again) == read_info(str(chain / "second")).meta[lineage.READ][1:]


def test_a_source_that_is_not_what_was_read_is_named(chain, tmp_path):
    entry = read_info(str(chain / "first")).meta[lineage.READ][0]
    text = (chain / "corpus.jsonl").read_text()
    (tmp_path / "corpus.jsonl").write_text(text)
    moved = entry | {"source": {"name": f"files:{tmp_path}/corpus.jsonl"}}
    assert list(lineage.texts(moved)) == list(lineage.texts(entry))  # wherever it lies
    (tmp_path / "corpus.jsonl").write_text(text + json.dumps({"id": "new", "text": "more"}) + "\n")
    with pytest.raises(UserError, match="corpus.jsonl has changed since it was read"):
        list(lineage.texts(moved))
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(UserError, match="corpus.jsonl matches no file"):
        list(lineage.texts(moved))

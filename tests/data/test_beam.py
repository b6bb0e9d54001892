"""Builds token stores with Apache Beam, if it is installed."""

import sys

import pytest

from research import cli
from research.data import store, tokenizer
from research.data.sources import SourceConfig
from tests import helpers
from tests.data.test_store import content


@pytest.mark.long
@pytest.mark.parametrize(
    "options", ["", "--direct_num_workers=2 --direct_running_mode=multi_threading"]
)
def test_a_pipeline_makes_the_store_that_one_process_makes(tmp_path, monkeypatch, options):
    pytest.importorskip("apache_beam")
    from research.data import beam

    monkeypatch.setattr(store, "BLOCK_BYTES", 300)
    for number in range(5):
        helpers.write_corpus(tmp_path / f"part{number}.jsonl", 12, seed=number % 4)
    corpus = (SourceConfig(f"files:{tmp_path}/part*.jsonl"),)
    tokens = tokenizer.byte_tokenizer()
    whole, made = (
        store.Job(corpus, "train", 10.0, tokens, str(tmp_path / cache)) for cache in "ab"
    )
    whole.make(quiet=True)
    beam.make([made], options)
    assert content(made.path) == content(whole.path)
    assert made.opened().counts["duplicates"] > 5
    beam.make([made], options)  # nothing is left to do
    assert content(made.path) == content(whole.path)


def test_without_beam_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # importing it fails
    monkeypatch.delitem(sys.modules, "research.data.beam", raising=False)
    given = ["--config=configs/pretrain/bert.py:size=tiny", "--beam=--runner=DirectRunner"]
    assert cli.main(["data", *given]) == 2
    assert "--beam needs the package apache-beam: python -m pip install" in capsys.readouterr().err

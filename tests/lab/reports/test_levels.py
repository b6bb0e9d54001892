"""Simple methods on a whole corpus and on each of its sources."""

import types

import numpy as np
import pytest

from research.config import from_values
from research.data import jsonl
from research.lab.record import Record
from research.lab.reports import levels
from tests import helpers


@pytest.fixture(scope="module")
def reached(tmp_path_factory):
    """Simple methods on two corpora, the second one with one sentence per document."""
    folder = tmp_path_factory.mktemp("levels")
    draw = np.random.default_rng(0)
    long = [helpers.document(draw, 8) for _ in range(40)]
    short = [f"Nam ite {n} mol." for n in range(40)]
    for name, texts in (("long", long), ("short", short)):
        jsonl.write(str(folder / f"{name}.jsonl"), ({"text": text} for text in texts))
    values = helpers.run_values("bert", folder, steps=1)
    values["data"]["corpus"] = [f"files:{folder}/{name}.jsonl" for name in ("long", "short")]
    record = Record(folder, "run", declared=from_values(values))
    info = types.SimpleNamespace(tokenizer_json=helpers.word_pieces().to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "read_info", lambda _: info)
        return levels.language_baselines(record), values["data"]["corpus"]


def test_each_source_has_levels_of_its_own(reached):
    found, (long, short) = reached
    assert found.keys() == {levels.ALL, long, short}
    accuracies = [found[part]["masked_accuracy"] for part in (long, levels.ALL, short)]
    assert {method for method, _ in accuracies} == {"most frequent token"}
    values = [value for _, value in accuracies]
    assert values == sorted(values) or values == sorted(values, reverse=True)
    assert values[0] != values[2]


def test_pairs_are_beside_the_best_rule_and_where_there_are_none_beside_a_coin(reached):
    found, (long, short) = reached
    method, value = found[long]["next_sentence_accuracy"]
    assert method in ("source of B", "both sources", "lengths", "bag of words") and value >= 0.5
    assert found[levels.ALL]["next_sentence_accuracy"] == (method, value)
    assert found[short]["next_sentence_accuracy"] == (levels.COIN, 0.5)
    assert found[long]["sentence_order_accuracy"] == (levels.COIN, 0.5)

import json
import random

import pytest

from research.metrics import answers, classification, entities, multi_label, regression
from research.metrics.counts import from_json, harmonic, ratio, to_json, total


def test_total_adds_key_by_key_and_counts_missing_keys_as_zero():
    assert total([{"a": 1.0, "b": 2.0}, {"a": 3.0}, {}]) == {"a": 4.0, "b": 2.0}
    assert total([]) == {}


def test_total_does_not_depend_on_the_order_of_the_examples():
    rows = [{"loss": 10.0 ** random.Random(i).uniform(-12, 12)} for i in range(500)]
    assert total(rows) == total(reversed(rows)) == total(sorted(rows, key=lambda row: row["loss"]))


def test_a_split_gives_the_same_numbers_however_it_is_batched():
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    draw = random.Random(0)
    pairs = [(draw.choices(tags, k=9), draw.choices(tags, k=9)) for _ in range(100)]
    counts = [entities.count(gold, predicted) for gold, predicted in pairs]
    whole = entities.compute(total(counts))
    for size in (1, 7, 64):
        batches = [total(counts[i : i + size]) for i in range(0, len(counts), size)]
        assert entities.compute(total(batches)) == whole


@pytest.mark.parametrize(
    "counts",
    [
        classification.count("a bad one", "[good]"),
        regression.count(3.5, 0.1 + 0.2),
        multi_label.count({"[x]", "y"}, {"y"}),
        entities.count(["B-PER", "O"], ["O", "B-PER"]),
        answers.count(["a river"], "the river"),
    ],
)
def test_counts_come_back_from_a_file(counts):
    assert from_json(json.loads(json.dumps(to_json(counts)))) == counts


def test_nothing_to_divide_by_is_zero():
    assert ratio(0.0, 0.0) == 0.0
    assert harmonic(0.0, 0.0) == 0.0
    assert harmonic(1.0, 0.5) == 2 / 3

"""ROUGE-L is rouge-score's (golden_texts.json, made by make_golden_texts.py)."""

import functools
import json
import random
from pathlib import Path

import pytest

from research.metrics import rouge
from research.metrics.counts import total

CORPORA = json.loads((Path(__file__).parent / "golden_texts.json").read_text())


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("The Cat, sat!", "the cat sat", 1.0),
        ("a b c d", "a c", 2 * (1 * 0.5) / 1.5),
        ("a b c d", "d c b a", 0.25),
        ("cats", "cat", 0.0),  # no stems
        ("", "cat", 0.0),
        ("cat", "", 0.0),
        ("", "", 0.0),
        ("日本", "日本", 0.0),
    ],
)
def test_by_hand(gold, predicted, expected):
    assert rouge.rouge_l(gold, predicted) == pytest.approx(expected)


def test_equals_rouge_score():
    scores = [text["rouge_l"] for corpus in CORPORA for text in corpus["texts"]]
    assert 0.3 < sum(scores) / len(scores) < 0.8
    for corpus in CORPORA:
        counts = [rouge.count(text["golds"], text["guess"]) for text in corpus["texts"]]
        expected = [text["rouge_l"] for text in corpus["texts"]]
        assert [c["rouge_l"] for c in counts] == pytest.approx(expected)
        mean = sum(expected) / len(expected)
        assert rouge.compute(total(counts))["rouge_l"] == pytest.approx(mean)


def test_the_longest_common_subsequence_is_that_of_its_definition():
    draw = random.Random(0)
    for _ in range(200):
        one, other = ([draw.choice("abc") for _ in range(draw.randint(0, 12))] for _ in range(2))

        @functools.cache
        def length(i: int, j: int, one=one, other=other) -> int:
            if i == len(one) or j == len(other):
                return 0
            if one[i] == other[j]:
                return 1 + length(i + 1, j + 1)
            return max(length(i + 1, j), length(i, j + 1))

        assert rouge.common_length(one, other) == length(0, 0)


def test_without_a_reference_an_empty_prediction_is_right():
    assert rouge.count([], " ")["rouge_l"] == 1.0
    assert rouge.count([], "cat")["rouge_l"] == 0.0
    assert rouge.compute({}) == {"rouge_l": 0.0}

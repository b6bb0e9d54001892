"""BLEU is sacrebleu's (golden_texts.json, made by make_golden_texts.py)."""

import json
import math
from pathlib import Path

import pytest

from research.metrics import bleu
from research.metrics.counts import total

CORPORA = json.loads((Path(__file__).parent / "golden_texts.json").read_text())


def score(pairs: list[tuple[list[str], str]]) -> float:
    return bleu.compute(total(bleu.count(golds, guess) for golds, guess in pairs))["bleu"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world.", ["Hello", ",", "world", "."]),
        ("1,600.5 km.", ["1,600.5", "km", "."]),
        ("2019-20 well-known", ["2019", "-", "20", "well-known"]),
        ("don't (so)", ["don't", "(", "so", ")"]),
        ("an end-\nline\nnext", ["an", "endline", "next"]),
        ("&quot;a&quot; &lt; b<skipped>", ['"', "a", '"', "<", "b"]),
    ],
)
def test_words(text, expected):
    assert bleu.words(text) == expected


def test_by_hand():
    gold, guess = "the cat sat on the mat", "the cat sat on a mat"
    rows = [5 / 6, 3 / 5, 2 / 4, 1 / 3]
    assert score([([gold], guess)]) == pytest.approx(math.prod(rows) ** 0.25)
    assert score([([gold], gold)]) == pytest.approx(1.0)
    short = "the cat sat on"
    assert score([([gold], short)]) == pytest.approx(math.exp(1 - 6 / 4))
    smoothed = [2 / 4, 1 / 3, 1 / 2 / 2, 1 / 4 / 1]
    assert score([(["a b c d"], "a b x y")]) == pytest.approx(math.prod(smoothed) ** 0.25)


def test_nothing_that_matches_and_nothing_long_enough_is_zero():
    assert score([(["a b c d e"], "v w x y z")]) == 0.0
    assert score([(["a b c"], "a b c")]) == 0.0
    assert score([(["a"], ""), ([], "")]) == 0.0
    assert bleu.compute({}) == {"bleu": 0.0}


def test_equals_sacrebleu():
    assert len({corpus["bleu"] for corpus in CORPORA}) == 5
    for corpus in CORPORA:
        texts = [(text["golds"], text["guess"]) for text in corpus["texts"]]
        assert 100 * score(texts) == pytest.approx(corpus["bleu"])
        alone = [100 * score([pair]) for pair in texts]
        assert alone == pytest.approx(corpus["bleu_alone"])

import random
import re

import pytest

from research.evaluation import answers
from research.evaluation.metrics import total


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat,\nsat!", "cat sat"),
        ("An apple a day", "apple day"),
        ("theatre and anthem", "theatre and anthem"),
        ("(1,600 km)", "1600 km"),
        ("the", ""),
        ("naïve – façade", "naïve – façade"),
    ],
)
def test_normalise(text, expected):
    assert answers.normalise(text) == expected


@pytest.mark.parametrize(
    ("golds", "predicted", "exact", "f1"),
    [
        (["Tahat 2,908 m"], "tahat 2908 m.", 1.0, 1.0),
        (["the red lion"], "red", 0.0, 2 / 3),
        (["a b c", "b c d"], "b c d e", 0.0, 6 / 7),
        (["cat cat"], "cat", 0.0, 2 / 3),
        (["cat"], "dog", 0.0, 0.0),
        (["cat"], "", 0.0, 0.0),
        ([], "", 1.0, 1.0),
        ([], "the", 1.0, 1.0),
        ([], "cat", 0.0, 0.0),
        (["The"], "a", 1.0, 1.0),
        (["The", "cat"], "a", 0.0, 0.0),
    ],
)
def test_hand_computed(golds, predicted, exact, f1):
    counts = answers.count(golds, predicted)
    assert counts["exact_match"] == exact
    assert counts["f1"] == pytest.approx(f1)
    assert counts["questions"] == 1.0


def official_words(text):
    """The rules as the official scripts state them, step by step."""
    text = text.lower()
    text = "".join(c for c in text if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    text = re.sub(r"\b(a|an|the)\b", " ", text)
    return text.split()


def official_f1(gold, predicted):
    truth, guess = official_words(gold), official_words(predicted)
    if not truth or not guess:
        return float(truth == guess)
    shared, rest = 0, list(truth)
    for word in guess:
        if word in rest:
            rest.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(guess), shared / len(truth)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_official_rules(seed):
    draw = random.Random(seed)
    pieces = ["the", "A", "an", "cat", "Cat's", "U.S.", "1,600", "-", "km", "the-cat", "über", ";"]

    def text():
        return draw.choice([" ", "  "]).join(draw.choices(pieces, k=draw.randint(0, 4)))

    questions = [([text() for _ in range(draw.randint(0, 3))], text()) for _ in range(300)]
    numbers = answers.finish(total(answers.count(golds, guess) for golds, guess in questions))
    exact, f1 = [], []
    for golds, guess in questions:
        truths = [gold for gold in golds if official_words(gold)] or [""]
        exact.append(max(official_words(gold) == official_words(guess) for gold in truths))
        f1.append(max(official_f1(gold, guess) for gold in truths))
    assert 0.05 < sum(exact) / len(exact) < 0.9
    assert numbers["exact_match"] == pytest.approx(sum(exact) / len(exact))
    assert numbers["f1"] == pytest.approx(sum(f1) / len(f1))


def test_nothing_counted_is_zero():
    assert answers.finish({}) == {"exact_match": 0.0, "f1": 0.0}

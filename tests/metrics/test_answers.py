import json
import random
import re
from pathlib import Path

import pytest

from research.metrics import answers
from research.metrics.counts import total

# Answers of people and of models, some random, with what the official scripts print for them.
GOLDEN = json.loads((Path(__file__).parent / "golden_squad.json").read_text())


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
    numbers = answers.compute(total(answers.count(golds, guess) for golds, guess in questions))
    exact, f1 = [], []
    for golds, guess in questions:
        truths = [gold for gold in golds if official_words(gold)] or [""]
        exact.append(max(official_words(gold) == official_words(guess) for gold in truths))
        f1.append(max(official_f1(gold, guess) for gold in truths))
    assert 0.05 < sum(exact) / len(exact) < 0.9
    assert numbers["exact_match"] == pytest.approx(sum(exact) / len(exact))
    assert numbers["f1"] == pytest.approx(sum(f1) / len(f1))


def test_nothing_counted_is_zero():
    assert answers.compute({}) == {"exact_match": 0.0, "f1": 0.0}


def golden_numbers(counted) -> dict[str, float]:
    """Returns percentages (thresholds stay as they are), as the scripts print them."""
    numbers = answers.compute(total(counted))
    return {k: v if k.endswith("_thresh") else 100 * v for k, v in numbers.items()}


def test_golden_numbers_of_squad_1():
    golden = GOLDEN["1.1"]
    found = golden_numbers(
        answers.count_answerable(q["answers"], q["prediction"]) for q in golden["questions"]
    )
    assert found == pytest.approx(golden["official"])


def test_golden_numbers_of_squad_2():
    golden = GOLDEN["2.0"]

    def expected(official):
        named = {"HasAns_": "/answerable", "NoAns_": "/unanswerable", "": ""}
        ours = {"exact": "exact_match", "f1": "f1"}
        kinds = {f"{ours[m]}{k}": official[f"{o}{m}"] for o, k in named.items() for m in ours}
        return kinds | {k: v for k, v in official.items() if k.startswith("best_")}

    def counts(number, threshold=1e9):
        q = golden["questions"][number]
        said = "" if q["null_odds"] > threshold else q["prediction"]
        return answers.count_by_kind(q["answers"], said) | answers.threshold_counts(
            number, q["answers"], q["prediction"], q["null_odds"]
        )

    numbers = range(len(golden["questions"]))
    assert golden_numbers(map(counts, numbers)) == pytest.approx(expected(golden["official"]))
    best = golden["official"]["best_f1_thresh"]
    cut = golden_numbers(counts(n, best) for n in numbers)
    told = expected(golden["official_at_best_f1"])
    assert {k: v for k, v in cut.items() if k in told} == pytest.approx(told)
    assert len({q["null_odds"] for q in golden["questions"]}) < len(numbers), "no ties are tried"


def official_1(gold, predicted):
    """F1 of version 1.1: without a word in common it is 0, whatever the words are."""
    shared = official_f1(gold, predicted)
    return shared if official_words(gold) and official_words(predicted) else 0.0


def official_threshold(predictions, scores, odds, has_answer):
    """`find_best_thresh` step by step; all four by question, in the order of the file."""
    reached = best = sum(not has for has in has_answer)
    threshold = 0.0
    for n in sorted(range(len(odds)), key=lambda n: odds[n]):
        if has_answer[n]:
            reached += scores[n]
        elif predictions[n]:
            reached -= 1
        if reached > best:
            best, threshold = reached, odds[n]
    return best / len(scores), threshold


@pytest.mark.parametrize("seed", range(6))
def test_thresholds_equal_the_official_search(seed):
    draw = random.Random(seed)
    pieces = ["the", "A", "cat", "Cat's", "1,600", "-", "km"]

    def text(least=0):
        return " ".join(draw.choices(pieces, k=draw.randint(least, 3)))

    golds = [[text(1) for _ in range(draw.choice([0, 1, 2]))] for _ in range(200)]
    said = [draw.choice(g) if g and draw.random() < 0.7 else text() for g in golds]
    # With one digit many are equal, where the order in the file decides.
    odds = [round(draw.gauss(-1.0 if g else 1.0, 2.0), 1 if seed % 2 else 6) for g in golds]
    counted = [
        answers.count_by_kind(g, p) | answers.threshold_counts(n, g, p, o)
        for n, (g, p, o) in enumerate(zip(golds, said, odds, strict=True))
    ]
    found = answers.compute(total(counted))
    for name, short, scored in (("exact_match", "exact", None), ("f1", "f1", official_f1)):
        scored = scored or (lambda g, p: float(official_words(g) == official_words(p)))
        truths = [[t for t in g if official_words(t)] or [""] for g in golds]
        scores = [max(scored(t, p) for t in ts) for ts, p in zip(truths, said, strict=True)]
        best, threshold = official_threshold(said, scores, odds, [bool(g) for g in golds])
        assert found[f"best_{short}"] == pytest.approx(best)
        assert found[f"best_{short}_thresh"] == threshold
        assert found[name] == pytest.approx(sum(scores) / len(scores))


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_rules_of_version_1(seed):
    draw = random.Random(seed)
    pieces = ["the", "A", "an", "cat", "Cat's", "U.S.", "1,600", "-", "über"]
    for _ in range(300):
        *golds, guess = (" ".join(draw.choices(pieces, k=draw.randint(0, 3))) for _ in range(3))
        counts = answers.count_answerable(golds, guess)
        assert counts["f1"] == pytest.approx(max(official_1(gold, guess) for gold in golds))
        same = any(official_words(gold) == official_words(guess) for gold in golds)
        assert counts["exact_match"] == same
    with pytest.raises(ValueError, match="without a gold answer"):
        answers.count_answerable([], "cat")


def test_answering_nothing_is_best_where_every_answer_is_wrong():
    assert answers.best_threshold([(-3.0, 0, -1.0), (2.0, 1, 0.0)], 1.0) == (1.0, 0.0)
    assert answers.best_threshold([(-3.0, 0, 1.0), (2.0, 1, -1.0)], 1.0) == (2.0, -3.0)

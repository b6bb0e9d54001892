import random
import warnings

import pytest
from seqeval import metrics as seqeval
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOBES, Entities

from research.metrics import entities
from research.metrics.counts import total


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O", [("PER", 1, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER O", [("PER", 0, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("O O", []),
        ("", []),
        ("I-creative-work I-creative-work", [("creative-work", 0, 2)]),
    ],
)
def test_spans(tags, expected):
    assert entities.spans(tags.split()) == expected


def test_hand_computed():
    gold = "B-PER I-PER O B-LOC O B-ORG".split()
    predicted = "B-PER I-PER O B-LOC I-LOC B-PER".split()
    numbers = entities.compute(entities.count(gold, predicted))
    assert numbers["precision"] == pytest.approx(1 / 3)
    assert numbers["recall"] == pytest.approx(1 / 3)
    assert numbers["f1"] == pytest.approx(1 / 3)
    assert numbers["precision/PER"] == pytest.approx(1 / 2)
    assert numbers["recall/PER"] == 1.0
    assert numbers["f1/LOC"] == numbers["f1/ORG"] == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_equals_seqeval(seed):
    draw = random.Random(seed)
    kinds = ["PER", "LOC", "creative-work"]
    tags = ["O", "O", "O", *(f"{p}-{kind}" for p in "BI" for kind in kinds)]
    golds = [draw.choices(tags, k=draw.randint(1, 12)) for _ in range(40)]
    predicted = [
        [tag if draw.random() < 0.7 else draw.choice(tags) for tag in gold] for gold in golds
    ]
    for sentence in golds:
        found = [(kind, start, end - 1) for kind, start, end in entities.spans(sentence)]
        assert found == get_entities(sentence)
    numbers = entities.compute(total(map(entities.count, golds, predicted)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = seqeval.classification_report(golds, predicted, output_dict=True)
    assert numbers["f1"] == pytest.approx(seqeval.f1_score(golds, predicted))
    assert numbers["precision"] == pytest.approx(seqeval.precision_score(golds, predicted))
    assert numbers["recall"] == pytest.approx(seqeval.recall_score(golds, predicted))
    for kind in kinds:
        assert numbers[f"f1/{kind}"] == pytest.approx(report[kind]["f1-score"])
        assert numbers[f"precision/{kind}"] == pytest.approx(report[kind]["precision"])
        assert numbers[f"recall/{kind}"] == pytest.approx(report[kind]["recall"])


def test_no_entities_at_all_is_zero():
    assert entities.compute(entities.count(["O"], ["O"])) == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O S-PER B-LOC E-LOC", [("PER", 1, 2), ("LOC", 2, 4)]),
        ("B-PER I-PER I-PER E-PER", [("PER", 0, 4)]),
        ("B-PER I-PER O", []),
        ("I-PER E-PER", []),
        ("B-PER E-LOC", []),
        ("B-PER I-LOC E-PER", []),
        ("B-PER B-PER E-PER", [("PER", 1, 3)]),
        ("B-PER S-LOC E-PER", [("LOC", 1, 2)]),
        ("B-PER E-PER E-PER", [("PER", 0, 2)]),
    ],
)
def test_spans_of_bioes_are_whole(tags, expected):
    assert entities.spans(tags.split(), "BIOES") == expected


@pytest.mark.parametrize("seed", range(20))
def test_bioes_equals_seqeval(seed):
    draw = random.Random(seed)
    kinds = ["PER", "LOC", "creative-work"]
    tags = ["O", "O", *(f"{p}-{kind}" for p in "BIES" for kind in kinds)]

    def sentence():
        """Returns whole entities, so that some match, mixed with random tags."""
        tags_ = []
        while len(tags_) < 12:
            kind, inner = draw.choice(kinds), draw.randint(0, 2)
            tags_ += draw.choice(
                [
                    [f"S-{kind}"],
                    [f"B-{kind}", *[f"I-{kind}"] * inner, f"E-{kind}"],
                    draw.choices(tags, k=2),
                ]
            )
        return tags_

    golds = [sentence() for _ in range(40)]
    predicted = [
        [tag if draw.random() < 0.85 else draw.choice(tags) for tag in gold] for gold in golds
    ]
    for sentence in [*golds, *predicted]:
        (expected,) = Entities([sentence], IOBES).entities
        found = [(kind, start, end) for kind, start, end in entities.spans(sentence, "BIOES")]
        assert found == [(e.tag, e.start, e.end) for e in expected]
    pairs = zip(golds, predicted, strict=True)
    numbers = entities.compute(total(entities.count(g, p, "BIOES") for g, p in pairs))
    strict = {"mode": "strict", "scheme": IOBES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = seqeval.classification_report(golds, predicted, output_dict=True, **strict)
        assert numbers["f1"] == pytest.approx(seqeval.f1_score(golds, predicted, **strict))
    assert 0.2 < numbers["f1"] < 0.9
    for kind in kinds:
        assert numbers[f"f1/{kind}"] == pytest.approx(report[kind]["f1-score"])
        assert numbers[f"precision/{kind}"] == pytest.approx(report[kind]["precision"])
        assert numbers[f"recall/{kind}"] == pytest.approx(report[kind]["recall"])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("O B-PER I-PER", "BIO"),
        ("B-PER O", "BIO"),
        ("I-PER O", "BIO"),
        ("O B-PER I-PER E-PER S-PER", "BIOES"),
        ("O S-PER", "BIOES"),
        ("O S-PER B-LOC E-LOC", "BIOES"),
        ("O B-S-PER I-S-PER", "BIO"),
    ],
)
def test_scheme(labels, expected):
    assert entities.scheme(labels.split()) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("O B-PER I-PER S-LOC", "with B-PER, I-PER but without E-PER.*neither.*mixture"),
        ("O I-PER E-PER S-PER", "without B-PER"),
        ("O B-PER I-PER L-PER U-PER", "a label is 'L-PER', not O, B-TYPE or I-TYPE"),
        ("O PER", "a label is 'PER'.*E-TYPE or S-TYPE"),
        ("O O-PER", "'O-PER'"),
    ],
)
def test_a_scheme_that_is_neither(labels, message):
    with pytest.raises(ValueError, match=message):
        entities.scheme(labels.split())


def test_marked():
    text = "Jack Walker lives in Rome."
    found = [
        {"type": "PER", "start": 0, "end": 11, "probability": 0.931},
        {"type": "LOC", "start": 21, "end": 25, "probability": 0.876},
    ]
    assert entities.marked(text, found) == "[Jack Walker|PER 0.93] lives in [Rome|LOC 0.88]."
    assert entities.marked(text, []) == text


@pytest.mark.parametrize("tag", ["PER", "S-PER", "B", "B-", "", "o"])
def test_other_tags_are_refused(tag):
    with pytest.raises(ValueError, match="of token 1"):
        entities.spans(["O", tag])


def test_lengths_have_to_agree():
    with pytest.raises(ValueError, match="2 gold tags but 1"):
        entities.count(["O", "O"], ["O"])

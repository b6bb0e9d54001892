"""Shared consecutive words: copies, and how much of some examples occurs elsewhere."""

import numpy as np
import pytest

from research.data import overlap, sources
from research.data.overlap import Grams, Overlap
from research.data.sources import SourceConfig


def numbered(start, end, word="w"):
    return " ".join(f"{word}{number}" for number in range(start, end))


def test_words_are_letters_and_digits_in_lower_case():
    text = "Don't—STOP: at 3.5 km_h, Élan!"
    assert overlap.words(text) == "don t stop at 3 5 km h élan".split()
    ascii_ = "".join(map(chr, range(128))) + " and so on"
    assert overlap.words(ascii_) == overlap.words(f"{ascii_} é")[:-1]


def by_hand(texts, other):
    """Returns the distinct 8-grams of texts that occur in another text."""
    grams = set()
    for text in texts:
        w = text.split()
        grams |= {tuple(w[i : i + 8]) for i in range(len(w) - 7)}
    w = other.split()
    return grams & {tuple(w[i : i + 8]) for i in range(len(w) - 7)}


def test_grams_are_those_that_are_counted_by_hand():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abc"), 40)) for _ in range(20)]  # many grams twice
    other = " ".join(rng.choice(list("abcd"), 3000))
    grams = Grams.of(texts)
    assert len(grams.hashes) == len(set.union(*(by_hand([t], t) for t in texts)))
    shared = by_hand(texts, other)
    assert grams.seen([other]).sum() == len(shared) > 5
    assert not grams.seen([]).any() and not grams.seen(["a b c", ""]).any()
    assert grams.seen(texts).all()


def test_a_gram_does_not_reach_from_one_text_into_the_next():
    grams = Grams.of([numbered(0, 8), numbered(8, 20)])
    assert len(grams.hashes) == 1 + 5
    assert (grams.places(numbered(0, 20)) >= 0).tolist() == [True, *[False] * 7, *[True] * 5]


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        (f"x {numbered(10, 23)} x", True),
        (f"x {numbered(10, 22)} x", False),
        (f"{numbered(10, 22)} x {numbered(30, 42)}", False),  # many grams, none long enough
        (f"x {numbered(0, 10, 's')} x", True),  # the whole of a shorter text
        (f"x {numbered(0, 9, 's')} x", False),
        (numbered(50, 59), True),  # a shorter document that stands in a text as a whole
        (f"{numbered(50, 59)} x", False),
        (numbered(50, 57), False),  # seven words are in no gram
        ("", False),
    ],
)
def test_a_copy_is_thirteen_words_on_end_or_the_whole_of_what_is_shorter(text, copied):
    grams = Grams.of([numbered(0, 100), numbered(0, 10, "s"), "too short to tell"])
    assert grams.copied(text) == copied


def test_a_document_that_is_tested_on_is_a_copy_in_another_corpus():
    tested = sources.read(SourceConfig("bundled:named_entities/brown_test"), "tokens")
    grams = Grams.of(" ".join(e["tokens"]) for e in tested if e["id"] == "cg35")
    addresses = sources.read(SourceConfig("bundled:corpus/state_of_the_union"), "document")
    recent = {e["id"]: e["text"] for e in addresses if e["id"] > "1950"}
    assert len(recent) > 60
    copies = [name for name, text in recent.items() if grams.copied(text)]
    assert copies == ["1960_dwight_d_eisenhower_r"]


def test_nothing_is_a_copy_of_nothing():
    for nothing in ([], [""], ["a b c"]):
        assert not Grams.of(nothing).copied(f"{numbered(0, 30)} {'a b c ' * 9}")


def test_the_overlap_of_an_example_that_is_counted_by_hand():
    examples = [
        [numbered(0, 10)],  # 3 grams, of which 2 stand elsewhere
        [numbered(20, 30), numbered(40, 48)],  # 3 and 1: the last one
        [numbered(60, 75)],  # 8, none
        ["a b c"],  # none at all
    ]
    grams = Grams.of(text for texts in examples for text in texts)
    seen = grams.seen([f"{numbered(1, 10)} and", numbered(40, 48)])
    found = overlap.count(map(grams.places_of, examples), seen)
    assert found == Overlap(examples=4, short=1, touched=2, grams=15, shared=3)
    assert found.percent == 50.0
    assert str(found) == (
        "50.00 % of the examples share an 8-gram (2 of 4; 1 are shorter), "
        "20.00 % of the 8-grams are shared (3 of 15)"
    )


def test_no_examples_share_nothing():
    assert overlap.count([], np.zeros(0, bool)).percent == 0.0

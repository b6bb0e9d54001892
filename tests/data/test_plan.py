"""Row plans: their guarantees for tokens, rows, pairs and random draws."""

import functools
import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest

from research.data import plan
from research.draws import generator
from research.errors import UserError
from research.objectives.masked_lm import predicted_count
from research.objectives.next_sentence import NextSentence, plan_pairs
from research.objectives.sentence_order import plan_ordered_pairs
from research.objectives.sentence_pairs import shortened

PREDICTED = functools.partial(predicted_count, rate=0.15)
SPECIALS = (2, 3)  # [CLS] A [SEP], [CLS] A [SEP] B [SEP]


def slices_in_rows(lengths, length: int, most: int, draw, specials: int, *limits) -> np.ndarray:
    return plan.plan_slices(lengths, plan.Rows(length, most, *limits), draw, specials)


def pairs_in_rows(sentences, sources, length: int, most: int, draw, short=0.1, *limits):
    return plan_pairs(sentences, sources, plan.Rows(length, most, *limits), draw, short)


def ordered_in_rows(sentences, length: int, most: int, draw, short=0.1, *limits) -> np.ndarray:
    return plan_ordered_pairs(sentences, plan.Rows(length, most, *limits), draw, short)


def sentence_offsets(draw: np.random.Generator, documents: int, longest: int = 20) -> list:
    """Random offsets: documents of 1 to `longest` sentences of 1 to 40 tokens."""
    counts = draw.integers(1, longest + 1, documents)
    return [[0, *np.cumsum(draw.integers(1, 41, n)).tolist()] for n in counts]


def sizes(segments: np.ndarray) -> np.ndarray:
    """Text tokens of each segment."""
    return segments["end"] - segments["start"] + segments["end_b"] - segments["start_b"]


def assert_rows_hold(segments, length: int, most: int, predictions: int, specials=SPECIALS):
    rows = segments["row"]
    assert set(np.diff(rows)) <= {0, 1} and rows[0] == 0
    tokens = sizes(segments) + np.take(specials, segments["doc_b"] >= 0)
    assert np.bincount(rows, tokens).max() <= length
    assert np.bincount(rows).max() <= most
    if predictions:
        assert np.bincount(rows, [PREDICTED(int(n)) for n in tokens]).max() <= predictions


@pytest.mark.smoke
@pytest.mark.parametrize("specials", [0, 2], ids=["causal", "single"])
@pytest.mark.parametrize(("length", "most", "predictions"), [(32, 4, 6), (64, 2, 64), (17, 9, 3)])
def test_every_token_is_in_exactly_one_slice(specials, length, most, predictions):
    draw = generator("lengths", length)
    lengths = draw.integers(0, 150, 120)
    segments = slices_in_rows(lengths, length, most, draw, specials, predictions, PREDICTED)
    seen = [np.zeros(n, int) for n in lengths]
    for segment in segments:
        seen[segment["doc"]][segment["start"] : segment["end"]] += 1
    assert all((count == 1).all() for count in seen)
    assert (segments["end"] > segments["start"]).all() and (segments["doc_b"] == -1).all()
    assert_rows_hold(segments, length, most, predictions, (specials, 0))


@pytest.mark.parametrize(
    ("length", "most", "predictions"), [(64, 4, 14), (32, 2, 5), (128, 16, 20)]
)
def test_pairs_keep_to_rows_documents_and_sentence_order(length, most, predictions):
    draw = generator("pairs", length)
    sentences = sentence_offsets(draw, 80)
    sources = draw.integers(0, 3, 80)
    segments = pairs_in_rows(sentences, sources, length, most, draw, 0.1, predictions, PREDICTED)
    assert_rows_hold(segments, length, most, predictions)
    segments = segments[segments["label"] != plan.NO_PAIR]
    ends = np.array([offsets[-1] for offsets in sentences])
    for doc, start, end in (("doc", "start", "end"), ("doc_b", "start_b", "end_b")):
        assert (segments[start] >= 0).all() and (segments[start] < segments[end]).all()
        assert (segments[end] <= ends[segments[doc]]).all()
    random = segments["label"] == 1
    assert (segments["doc_b"][random] != segments["doc"][random]).all()
    assert (sources[segments["doc_b"]] == sources[segments["doc"]]).all()
    firsts = [sentences[segment["doc_b"]][1] for segment in segments]
    assert (segments["start_b"] >= firsts).all()  # the first sentence of a document follows nothing
    true = segments[~random]
    assert (true["doc_b"] == true["doc"]).all()
    # B follows A: between them lies only what was cut off A's end and B's front.
    assert (true["start_b"] >= true["end"]).all()
    for segment in true:
        offsets = sentences[segment["doc"]]
        between = [o for o in offsets if segment["end"] <= o <= segment["start_b"]]
        assert between, "A and B are parts of one sentence"


def test_every_document_is_read_to_its_end():
    draw = generator("to the end")
    segments = pairs_in_rows(sentence_offsets(draw, 50), [0] * 50, 64, 4, draw, 0.0)
    assert set(segments["doc"]) == set(range(50))
    for doc in range(50):
        own = segments[segments["doc"] == doc]
        assert (np.diff(own["start"]) > 0).all()


@pytest.mark.parametrize("longest", [30, 3], ids=["long documents", "many lonely sentences"])
def test_one_of_two_pairs_of_a_source_is_random(longest):
    draw = generator("half", longest)
    sources = draw.integers(0, 4, 1500)
    segments = pairs_in_rows(sentence_offsets(draw, 1500, longest), sources, 128, 16, draw)
    for source in range(4):
        labels = segments["label"][sources[segments["doc"]] == source]
        labels = labels[labels != plan.NO_PAIR]
        assert len(labels) > 100
        assert (labels[: len(labels) // 2 * 2].reshape(-1, 2).sum(1) == 1).all()


def test_what_cannot_be_told_from_its_kind_makes_no_pair():
    """Documents of one sentence, a source's only document, and a left-over last sentence."""
    sentences = [[0, 9], [0, 4, 9, 15], [0, 5, 6], [0, 3, 7], [0, 30], [0]]
    sources = [0, 1, 0, 0, 0, 0]
    assert plan.paired([len(s) - 1 for s in sentences], sources).tolist() == [
        *[False, False, True, True, False, False]
    ]
    seen = set()
    for seed in range(20):
        segments = pairs_in_rows(sentences, sources, 24, 4, generator("alone", seed))
        assert_rows_hold(segments, 24, 4, 0)
        alone = segments[segments["label"] == plan.NO_PAIR]
        assert (alone["doc_b"] == -1).all()
        for doc in (0, 1, 4):
            own = segments[segments["doc"] == doc]
            assert (own["label"] == plan.NO_PAIR).all()
            assert sizes(own).sum() == sentences[doc][-1]
        seen |= {(int(s["doc"]), int(s["start"])) for s in alone} - {(0, 0), (1, 0), (4, 0)}
        assert set(segments["doc"][segments["label"] >= 0]) == {2, 3}
    assert {(2, 5), (3, 3)} <= seen  # behind an A whose B was random


def test_a_random_sentence_comes_from_other_documents_by_their_tokens():
    """Like true ones, whatever the length of a document's sentences, and from anywhere in it."""
    draw = generator("others")
    each = [(4000, 9), (3000, 3), (600, 15), (500, 9), (400, 9)]  # sentences, and their tokens
    sentences = [list(range(0, n * size + 1, size)) for n, size in each]
    segments = pairs_in_rows(sentences, [0, 0, 0, 0, 1], 64, 1, draw, 0.5)
    random = segments[segments["label"] == 1]
    counts = np.zeros((4, 4))
    np.add.at(counts, (random["doc"], random["doc_b"]), 1)
    assert (np.diag(counts) == 0).all() and counts.sum() == len(random) > 500
    weights = np.array([n * size for n, size in each[:4]])
    for row in range(4):
        n, share = counts[row].sum(), weights * (np.arange(4) != row)
        share = share / share.sum()
        assert (np.abs(counts[row] - n * share) <= 4 * np.sqrt(n * share * (1 - share))).all()
    places = random["start_b"][random["doc_b"] == 0] / sentences[0][-1]
    assert abs(places.mean() - 0.5) < 4 / math.sqrt(12 * len(places))


def test_a_random_sentence_is_as_long_as_the_true_one_would_be():
    draw = generator("as long")
    sentences = sentence_offsets(draw, 3000, longest=6)
    segments = pairs_in_rows(sentences, [0] * 3000, 128, 16, draw)
    lengths = segments["end_b"] - segments["start_b"]
    true, random = (lengths[segments["label"] == label] for label in (0, 1))
    assert min(len(true), len(random)) > 1000
    assert abs(true.mean() - random.mean()) < 0.05 * true.mean()
    # No threshold on the length tells them apart.
    every = np.arange(lengths.max())
    shares = [np.searchsorted(np.sort(n), every, side="right") / len(n) for n in (true, random)]
    assert np.abs(shares[0] - shares[1]).max() < 0.1


@pytest.mark.parametrize("short", [0.0, 0.1, 0.4])
def test_the_share_of_short_pairs_is_the_one_asked_for(short):
    # With sentences of one token a pair has exactly the length that was drawn for it, but for
    # the ones that meet the end of a document.
    sentences = [list(range(40_001)) for _ in range(3)]
    length = 35
    sources = [0] * 3
    segments = pairs_in_rows(sentences, sources, length, 1, generator("short", str(short)), short)
    segments = segments[segments["label"] != plan.NO_PAIR]
    inside = segments[(segments["end"] < 40_000 - length) & (segments["end_b"] < 40_000)]
    drawn = sizes(inside) + SPECIALS[1]
    room = length - SPECIALS[1]
    expected = short * (room - 2) / (room - 1)  # a "short" pair may draw the whole room
    error = math.sqrt(max(expected * (1 - expected), 1e-9) / len(inside))
    assert abs((drawn < length).mean() - expected) < 4 * error
    if short:
        lengths = drawn[drawn < length] - SPECIALS[1]
        assert lengths.min() == 2 and lengths.max() == room - 1
        middle, spread = (2 + room - 1) / 2, (room - 3) / math.sqrt(12)
        assert abs(lengths.mean() - middle) < 4 * spread / math.sqrt(len(lengths))


@pytest.mark.parametrize("pairs", [True, False])
def test_a_plan_depends_on_its_generator_alone(pairs):
    sentences = sentence_offsets(generator("documents"), 40)
    lengths = [offsets[-1] for offsets in sentences]

    def make(*key):
        if pairs:
            return pairs_in_rows(sentences, [0] * 40, 64, 4, generator(*key))
        return slices_in_rows(lengths, 64, 4, generator(*key), 2)

    assert np.array_equal(make("epoch", 0), make("epoch", 0))
    assert not np.array_equal(make("epoch", 0), make("epoch", 1))


def test_a_split_of_which_no_document_makes_pairs_is_refused():
    NextSentence().check_split({"paired_documents": 2})
    with pytest.raises(UserError, match="two documents of two sentences or more"):
        NextSentence().check_split({"paired_documents": 0})


@pytest.mark.parametrize(("a", "b", "room"), [(1, 100, 2), (5, 5, 3), (30, 4, 20), (7, 8, 14)])
def test_truncation_shortens_the_longer_side_first_and_leaves_both(a, b, room):
    for seed in range(20):
        (start_a, end_a), (start_b, end_b) = shortened((0, a), (9, 9 + b), room, generator(seed))
        assert start_a >= 0 and end_a <= a and start_b >= 9 and end_b <= 9 + b
        left_a, left_b = end_a - start_a, end_b - start_b
        assert left_a + left_b == room and min(left_a, left_b) >= 1
        untouched_a, untouched_b = left_a == a, left_b == b
        assert untouched_a or untouched_b or abs(left_a - left_b) <= 1
    assert shortened((1, 4), (5, 9), 7, generator(0)) == ((1, 4), (5, 9))


def test_documents_follow_each_other_in_another_order_than_they_stand():
    segments = slices_in_rows([5] * 40, 64, 16, generator("order"), 0)
    assert any(b < a for a, b in pairwise(segments["doc"]))


def test_the_plans_have_not_changed():
    """If this fails, increase plan.FORMAT, or cached row counts belong to other plans."""
    assert plan.FORMAT == 2
    lengths = [40, 7, 300, 64, 1, 90]
    offsets = [list(range(0, n, 9)) + [n] for n in lengths]
    slices = slices_in_rows(lengths, 64, 4, generator("golden"), 2, 10, lambda n: n // 6)
    sources = [0, 1, 0, 0, 0, 1]
    pairs = pairs_in_rows(offsets, sources, 64, 4, generator("golden"), 0.1, 10, lambda n: n // 6)
    assert [hashlib.sha256(p.tobytes()).hexdigest()[:12] for p in (slices, pairs)] == [
        "73947a4ba3c1",
        "3ac3c8ae1021",
    ]


@pytest.mark.parametrize(
    ("length", "most", "predictions"), [(64, 4, 14), (32, 2, 5), (128, 16, 20)]
)
def test_ordered_pairs_are_neighbours_that_change_places_half_the_time(length, most, predictions):
    draw = generator("ordered", length)
    sentences = [*sentence_offsets(draw, 300), [0, 1], [0, 9]]
    segments = ordered_in_rows(sentences, length, most, draw, 0.1, predictions, PREDICTED)
    assert_rows_hold(segments, length, most, predictions)
    assert (segments["doc"] == segments["doc_b"]).all()
    swapped = segments["label"] == 1
    assert abs(swapped.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(segments))
    a = np.stack([segments["start"], segments["end"]], 1)
    b = np.stack([segments["start_b"], segments["end_b"]], 1)
    first, second = np.where(swapped[:, None], b, a), np.where(swapped[:, None], a, b)
    for part in (first, second):
        assert (part[:, 0] >= 0).all() and (part[:, 0] < part[:, 1]).all()
    # Between the two lies only what was cut off the one's end and the other's front.
    assert (first[:, 1] <= second[:, 0]).all()
    for segment, end, start in zip(segments, first[:, 1], second[:, 0], strict=True):
        offsets = sentences[segment["doc"]]
        assert len(offsets) == 2 or any(end <= o <= start for o in offsets)
    # Every document is read, but for one of a single token, which has no order.
    assert set(range(len(sentences))) - set(segments["doc"]) <= {
        d for d, offsets in enumerate(sentences) if offsets[-1] < 2
    }
    assert 300 not in segments["doc"] and 301 in segments["doc"]

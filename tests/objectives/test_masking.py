"""Corruption of masked LM: how many tokens, which, and by what they are replaced."""

import math

import numpy as np
import pytest

from research.draws import generator
from research.objectives import masked_lm as masking

MASK, VOCABULARY = 4, 1000
ORDINARY = np.arange(5, VOCABULARY)
SPECIAL = np.arange(5)


def segment(draw: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens, special, word starts) of a sentence pair of n tokens with [CLS] and two [SEP]."""
    tokens = draw.choice(ORDINARY, n)
    middle = n // 2
    tokens[[0, middle, n - 1]] = 2, 3, 3
    starts = draw.random(n) < 0.6
    special = np.isin(tokens, SPECIAL)
    return tokens, special, starts | special | np.roll(special, 1)


def corrupt(parts, key, unit="token", rate=0.15) -> masking.Corruption:
    return masking.corrupt(*parts, rate, unit, MASK, ORDINARY, generator(*key))


@pytest.mark.smoke
def test_80_10_10_and_the_exact_count_over_many_tokens():
    draw = generator("segments")
    kinds = {"mask": 0, "kept": 0, "random": 0}
    predicted, drawn = 0, np.zeros(VOCABULARY, int)
    for i in range(7000):
        n = int(draw.integers(8, 220))
        parts = segment(draw, n)
        corruption = corrupt(parts, ("mask", i))
        tokens, special, _ = parts
        assert len(corruption.positions) == max(1, round(0.15 * n))
        assert (np.diff(corruption.positions) > 0).all()
        assert not special[corruption.positions].any()
        assert np.array_equal(corruption.targets, tokens[corruption.positions])
        untouched = np.ones(n, bool)
        untouched[corruption.positions] = False
        assert np.array_equal(corruption.tokens[untouched], tokens[untouched])
        new = corruption.tokens[corruption.positions]
        masked, kept = new == MASK, new == corruption.targets
        kinds["mask"] += int(masked.sum())
        kinds["kept"] += int(kept.sum())
        kinds["random"] += int((~masked & ~kept).sum())
        np.add.at(drawn, new[~masked & ~kept], 1)
        predicted += len(new)
    assert predicted > 100_000
    same = 0.1 / len(ORDINARY)  # a random token may be the one that was there
    for name, share in (("mask", 0.8), ("kept", 0.1 + same), ("random", 0.1 - same)):
        error = math.sqrt(share * (1 - share) / predicted)
        assert abs(kinds[name] / predicted - share) < 4 * error, name
    assert drawn[SPECIAL].sum() == 0
    # Uniform over the ordinary ids: the chi-square of 994 degrees of freedom has sd sqrt(2 df).
    expected = kinds["random"] / len(ORDINARY)
    chi = float(((drawn[ORDINARY] - expected) ** 2 / expected).sum())
    assert abs(chi - len(ORDINARY)) < 4 * math.sqrt(2 * len(ORDINARY))


def test_every_ordinary_position_is_as_likely_as_every_other():
    parts = segment(generator("one segment"), 40)
    hits, draws = np.zeros(40), 4000
    for i in range(draws):
        hits[corrupt(parts, ("again", i)).positions] += 1
    candidates = ~parts[1]
    share = 6 / candidates.sum()
    error = math.sqrt(draws * share * (1 - share))
    assert (hits[~candidates] == 0).all()
    assert (np.abs(hits[candidates] - draws * share) < 4.5 * error).all()


@pytest.mark.parametrize(("n", "rate", "count"), [(3, 0.15, 1), (10, 0.15, 2), (128, 0.15, 19)])
def test_the_count_is_at_least_one(n, rate, count):
    assert masking.predicted_count(n, rate) == count == max(1, round(rate * n))


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_the_same_key_gives_the_same_mask_and_another_key_another(unit):
    parts = segment(generator("keys"), 100)
    first, again, other = (corrupt(parts, (unit, k), unit) for k in (0, 0, 1))
    assert np.array_equal(first.tokens, again.tokens)
    assert np.array_equal(first.positions, again.positions)
    assert not np.array_equal(first.positions, other.positions)


def words_of(parts) -> list[set[int]]:
    """Positions of each word, without special tokens."""
    _, special, starts = parts
    words: dict[int, set[int]] = {}
    for position, word in enumerate(np.cumsum(starts)):
        if not special[position]:
            words.setdefault(int(word), set()).add(position)
    return list(words.values())


def test_whole_words_are_masked_whole_but_for_what_fits_no_word():
    draw = generator("words")
    whole = partly = 0
    for i in range(300):
        parts = segment(draw, int(draw.integers(10, 150)))
        corruption = corrupt(parts, ("word", i), "word")
        assert len(corruption.positions) == masking.predicted_count(len(parts[0]), 0.15)
        chosen = set(corruption.positions.tolist())
        complete = [w for w in words_of(parts) if w <= chosen]
        rest = chosen - set().union(*complete)
        whole, partly = whole + len(chosen) - len(rest), partly + len(rest)
        # A word is left out only where it would exceed the count.
        assert all(len(w) > len(rest) for w in words_of(parts) if not w <= chosen)
    assert whole > 0 and partly < 0.1 * whole


def test_spans_are_runs_of_whole_words_but_for_the_last():
    draw = generator("spans")
    runs = {"span": [], "word": []}
    for i in range(300):
        parts = segment(draw, 128)
        for unit in runs:
            corruption = corrupt(parts, (unit, i), unit)
            assert len(corruption.positions) == 19
            breaks = np.flatnonzero(np.diff(corruption.positions) > 1)
            runs[unit].append(19 / (len(breaks) + 1))
        chosen = set(corrupt(parts, ("span", i), "span").positions.tolist())
        cut = [w for w in words_of(parts) if w & chosen and not w <= chosen]
        assert len(cut) <= 1
    # Spans of 3.8 words on average, 1.7 tokens a word.
    assert np.mean(runs["span"]) > 1.7 * np.mean(runs["word"])
    assert np.mean(runs["span"]) > 3.5


def test_a_span_is_masked_replaced_or_kept_as_a_whole():
    tokens = generator("text").choice(ORDINARY, 200)
    parts = tokens, np.zeros(200, bool), np.ones(200, bool)
    alike, touching, kinds = 0, 0, {"mask": 0, "kept": 0, "random": 0}
    for i in range(1000):
        corruption = corrupt(parts, ("whole", i), "span", rate=0.05)
        new = corruption.tokens[corruption.positions]
        kind = np.where(new == MASK, "mask", np.where(new == corruption.targets, "kept", "random"))
        for name in kinds:
            kinds[name] += int((kind == name).sum())
        touches = np.diff(corruption.positions) == 1
        alike += int((kind[1:] == kind[:-1])[touches].sum())
        touching += int(touches.sum())
    # Two spans may touch; of single tokens 66 % would be what their neighbour is.
    assert alike / touching > 0.95
    assert abs(kinds["mask"] / 10_000 - 0.8) < 0.03 and abs(kinds["kept"] / 10_000 - 0.1) < 0.02


def test_lengths_of_spans_are_those_of_spanbert():
    lengths = np.diff([0, *masking.SPAN_SHARES])
    assert len(lengths) == 10 and lengths.sum() == pytest.approx(1)
    assert lengths[1:] / lengths[:-1] == pytest.approx(0.8)
    assert (lengths * np.arange(1, 11)).sum() == pytest.approx(3.8, abs=0.01)


def test_a_span_does_not_go_on_behind_a_separator():
    tokens = generator("pair").choice(ORDINARY, 41)
    tokens[20] = 3
    parts = tokens, tokens == 3, np.ones(41, bool)
    both = [0, 0]
    for i in range(400):
        # Two words are predicted: one span, or the ends of two.
        positions = corrupt(parts, ("pair", i), "span", rate=0.05).positions
        both[int(19 in positions and 21 in positions)] += 1
    assert both[1] <= 4  # by two spans of one word


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_a_segment_with_fewer_ordinary_tokens_than_its_count_predicts_them_all(unit):
    tokens = np.array([2, 7, 3, 3, 3, 3, 3, 3, 3, 3])
    special = tokens < 5
    corruption = masking.corrupt(
        tokens, special, np.ones(10, bool), 0.5, unit, MASK, ORDINARY, generator(0)
    )
    assert corruption.positions.tolist() == [1] and corruption.targets.tolist() == [7]


def test_the_rate_is_free():
    parts = segment(generator("rate"), 100)
    assert len(corrupt(parts, (0,), rate=0.4).positions) == 40

import numpy as np
import pytest

from research.tasks.windows import most_context, windows

CASES = [(0, 5, 5), (1, 5, 2), (5, 5, 2), (6, 5, 2), (23, 5, 5), (23, 5, 1), (100, 9, 4)]


@pytest.mark.parametrize("count,room,stride", CASES)
def test_windows_hold_every_token_and_step_by_the_stride(count, room, stride):
    found = windows(count, room, stride)
    starts, ends = np.array(found).T
    assert set().union(*(range(a, b) for a, b in found)) == set(range(count))
    assert (np.diff(starts) == stride).all()
    assert (ends - starts <= room).all()
    assert ends[-1] == count and (ends[:-1] - starts[:-1] == room).all()


def test_a_text_that_fits_is_one_window():
    assert windows(5, 5, 1) == [(0, 5)]
    assert windows(0, 5, 1) == [(0, 0)]


@pytest.mark.parametrize("count,room,stride", CASES[1:])
def test_every_token_belongs_to_the_window_with_most_context(count, room, stride):
    spans = windows(count, room, stride)
    owner = most_context(count, spans)
    for token, chosen in enumerate(owner):
        margins = [min(token - a, b - 1 - token) if a <= token < b else -1 for a, b in spans]
        assert margins[chosen] == max(margins) >= 0
    assert (np.diff(owner) >= 0).all()


def test_the_example_of_bert():
    """Windows of five words; "bought" has four words before it in one, and three after in the next.

    The text is the one in the comments of run_squad.py.
    """
    words = "the man went to the store and bought a gallon of milk".split()
    spans = windows(len(words), 5, 3)
    assert spans[:3] == [(0, 5), (3, 8), (6, 11)]
    owner = dict(zip(words, most_context(len(words), spans), strict=True))
    assert owner["bought"] == 2 and owner["store"] == 1 and owner["milk"] == 3


def test_a_short_last_window_has_to_show_more():
    """A hundredth of the length: here 3.84 against 2.72, more than the one token of context."""
    spans = windows(400, 384, 128)
    assert spans == [(0, 384), (128, 400)]
    owner = most_context(400, spans)
    assert owner[256] == 0, "127 tokens on the narrower side, and 128 in the shorter window"
    assert owner[257] == 1, "126 and 129"


@pytest.mark.parametrize("count,room,stride", [*CASES, (400, 384, 128), (1000, 300, 130)])
def test_equals_the_rule_of_bert(count, room, stride):
    spans = windows(count, room, stride)

    def official(token):
        best = chosen = None
        for w, (start, end) in enumerate(spans):
            if start <= token < end:
                score = 100 * min(token - start, end - 1 - token) + (end - start)
                if best is None or score > best:
                    best, chosen = score, w
        return chosen

    assert most_context(count, spans).tolist() == [official(t) for t in range(count)]

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

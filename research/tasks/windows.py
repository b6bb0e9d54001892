"""Cuts long texts into overlapping windows that together cover every token."""

from collections.abc import Sequence

import numpy as np


def windows(count: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Returns (start, end) of one or more windows over `count` tokens, each of at most `room`.

    A window starts `stride` tokens after the one before it (0 < stride <= room).
    """
    spans = [(0, min(count, room))]
    while spans[-1][1] < count:
        start = spans[-1][0] + stride
        spans.append((start, min(count, start + room)))
    return spans


def most_context(count: int, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns for each token the index of the window with most context for it, int [count].

    The rule of BERT's SQuAD code (`_check_is_max_context` in run_squad.py): the context on the
    narrower side plus a hundredth of the window's length; the first window wins ties. The index
    never falls from one token to the next, so the windows' own tokens, in order, are the text.
    """
    place = np.arange(count)
    scores = []
    for start, end in spans:
        margin = np.minimum(place - start, end - 1 - place)
        # In hundredths, so that equal scores are equal.
        scores.append(np.where(margin >= 0, 100 * margin + end - start, -1))
    return np.argmax(np.stack(scores), axis=0)

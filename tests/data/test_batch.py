"""Segments to arrays, and first-fit packing."""

import numpy as np
import pytest

from research.data.batch import Layout, Segment, assemble, empty, pack
from research.draws import generator


def make(tokens, types=None, **given) -> Segment:
    tokens = np.array(tokens, np.int32)
    types = np.zeros(len(tokens), np.int32) if types is None else np.array(types)
    return Segment(tokens, types, **given)


def test_segments_lie_side_by_side():
    layout = Layout(length=8, segments=3, predictions=3, labels=("label", "start"))
    rows = [
        [
            make(
                [5, 6, 7],
                [0, 0, 1],
                example=4,
                labels={"label": 2, "start": 1},
                predict_positions=np.array([1]),
                predict_targets=np.array([60]),
            ),
            make(
                [8, 9],
                example=9,
                weight=0.0,
                labels={"label": 1, "start": 1},
                predict_positions=np.array([0, 1]),
                predict_targets=np.array([80, 90]),
            ),
        ],
        [],
    ]
    batch = assemble(rows, layout, pad=3)
    expected = {
        "tokens": [[5, 6, 7, 8, 9, 3, 3, 3], [3] * 8],
        "segments": [[1, 1, 1, 2, 2, 0, 0, 0], [0] * 8],
        "positions": [[0, 1, 2, 0, 1, 0, 0, 0], [0] * 8],
        "token_types": [[0, 0, 1, 0, 0, 0, 0, 0], [0] * 8],
        "first": [[0, 3, 0], [0] * 3],
        "last": [[2, 4, 0], [0] * 3],
        "example": [[4, 9, -1], [-1] * 3],
        "segment_weights": [[1, 0, 0], [0] * 3],
        "label": [[2, 1, 0], [0] * 3],
        "start": [[1, 4, 0], [0] * 3],  # a place in the segment becomes one in the row
        "predict_positions": [[1, 3, 4], [0] * 3],
        "predict_targets": [[60, 80, 90], [0] * 3],
        "predict_weights": [[1, 0, 0], [0] * 3],
    }
    assert batch.keys() == expected.keys()
    for name, values in expected.items():
        assert batch[name].tolist() == values, name


def test_targets_carry_the_weight_of_their_segment():
    layout = Layout(length=4, segments=2, targets=True)
    segments = [
        make([1, 2], targets=np.array([2, 3]), target_weights=np.array([0.0, 1.0])),
        make([4], targets=np.array([5]), target_weights=np.array([1.0]), weight=0.5),
    ]
    batch = assemble([segments], layout, pad=0)
    assert batch["targets"].tolist() == [[2, 3, 5, 0]]
    assert batch["target_weights"].tolist() == [[0.0, 1.0, 0.5, 0.0]]


def test_an_empty_batch_counts_nothing():
    batch = empty(2, Layout(4, 2, predictions=2, targets=True, labels=("label",)), pad=7)
    assert (batch["tokens"] == 7).all() and (batch["example"] == -1).all()
    for name in ("segments", "segment_weights", "predict_weights", "target_weights"):
        assert not batch[name].any()


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([make([1]), make([1]), make([1])], "3 segments, capacity 2"),
        ([make([1, 2, 3, 4, 5])], "5 positions, capacity 4"),
    ],
)
def test_what_does_not_fit_is_an_error(segments, message):
    with pytest.raises(ValueError, match=message):
        assemble([segments], Layout(length=4, segments=2), pad=0)


def test_too_many_predictions_are_an_error():
    segment = make([1, 2], predict_positions=np.arange(2), predict_targets=np.arange(2))
    with pytest.raises(ValueError, match="over 1 positions"):
        assemble([[segment]], Layout(length=4, segments=2, predictions=1), pad=0)


def test_packing_holds_every_item_once_within_the_capacities():
    draw = generator("pack")
    lengths = draw.integers(1, 60, 200).tolist()
    rows = pack(lengths, 64, 4)
    assert sorted(i for row in rows for i in row) == list(range(200))
    assert max(len(row) for row in rows) <= 4
    totals = [sum(lengths[i] for i in row) for row in rows]
    assert max(totals) <= 64
    assert sum(totals) > 0.9 * 64 * len(rows)


def test_packing_takes_the_longest_first():
    assert pack([1, 3, 2, 4], 5, 2) == [[3, 0], [1, 2]]
    assert pack([1, 3, 2, 4], 5, 2, order=[0, 1, 2, 3]) == [[0, 1], [2], [3]]


def test_an_item_longer_than_a_row_is_an_error():
    with pytest.raises(ValueError, match="9 tokens, a row has 8"):
        pack([3, 9], 8, 2)

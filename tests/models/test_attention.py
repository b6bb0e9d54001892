"""Attention equals a plain NumPy version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.draws import generator
from research.models import attention, dropout

SEGMENTS = np.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]])


@pytest.mark.parametrize("pattern", ["full", "causal"])
def test_a_query_sees_its_own_segment(pattern):
    mask = np.asarray(attention.segment_mask(jnp.array(SEGMENTS), pattern))
    for b, row in enumerate(SEGMENTS):
        for query, own in enumerate(row):
            for key, theirs in enumerate(row):
                seen = own == theirs and own > 0 and (pattern == "full" or key <= query)
                assert mask[b, query, key] == seen


def test_a_prefix_is_seen_by_all_of_its_segment():
    marked = np.array([[0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]], bool)
    mask = np.asarray(attention.segment_mask(jnp.array(SEGMENTS), "prefix", jnp.asarray(marked)))
    for b, row in enumerate(SEGMENTS):
        for query, own in enumerate(row):
            for key, theirs in enumerate(row):
                seen = own == theirs and own > 0 and (key <= query or marked[b, key])
                assert mask[b, query, key] == seen


def reference(query, key, value, mask):
    """Loops over rows, queries and heads in float64."""
    rows, length, heads, width = query.shape
    share = heads // key.shape[2]
    out = np.zeros(query.shape)
    for b in range(rows):
        for at in range(length):
            if not mask[b, at].any():
                continue
            for h in range(heads):
                scores = key[b, :, h // share] @ query[b, at, h] / np.sqrt(width)
                weights = np.exp(scores - scores[mask[b, at]].max()) * mask[b, at]
                out[b, at, h] = weights / weights.sum() @ value[b, :, h // share]
    return out


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("pattern", ["full", "causal"])
def test_attention_is_the_softmax_over_the_mask(groups, pattern):
    draw = generator("attend", groups)
    query = draw.normal(size=(2, 6, 4, 8))
    key, value = draw.normal(size=(2, 2, 6, groups, 8))
    mask = np.asarray(attention.segment_mask(jnp.array(SEGMENTS), pattern))
    given = [jnp.asarray(x, jnp.float32) for x in (query, key, value)]
    found = np.asarray(attention.attend(*given, jnp.asarray(mask)))
    real = SEGMENTS > 0
    assert np.allclose(found[real], reference(query, key, value, mask)[real], atol=2e-6)
    assert np.isfinite(found).all(), "padding must not give NaN"


def test_rotation_turns_pairs_of_the_two_halves():
    draw = generator("rope")
    x = draw.normal(size=(1, 5, 1, 6)).astype(np.float32)
    positions = np.array([[0, 1, 2, 0, 7]])
    found = np.asarray(attention.rotate(jnp.asarray(x), jnp.asarray(positions), 100.0))
    for at, position in enumerate(positions[0]):
        for i in range(3):
            angle = position * 100.0 ** (-i / 3)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            expected = turn @ x[0, at, 0, [i, i + 3]]
            assert np.allclose(found[0, at, 0, [i, i + 3]], expected, atol=1e-5)


def test_rotated_scores_depend_on_the_distance_alone():
    draw = generator("distance")
    x, y = (jnp.asarray(draw.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))

    def score(a: int, b: int) -> float:
        turned = (attention.rotate(v, jnp.array([[p]]), 10_000.0) for v, p in ((x, a), (y, b)))
        return float(jnp.sum(next(turned) * next(turned)))

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 6), abs=1e-2)


def test_slopes_are_those_of_the_paper():
    assert attention.alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]
    assert attention.alibi_slopes(2).tolist() == [2.0**-4, 2.0**-8]
    # Eight heads' slopes, then every other one of sixteen heads'.
    expected = [2.0**-n for n in range(1, 9)] + [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    assert np.allclose(attention.alibi_slopes(12), expected)


def test_alibi_lowers_a_score_by_slope_and_distance():
    draw = generator("alibi")
    query, key, value = draw.normal(size=(3, 1, 5, 4, 8))
    at = np.arange(5)
    distance = np.abs(at[:, None] - at)[None]
    given = [jnp.asarray(x, jnp.float32) for x in (query, key, value)]
    mask = jnp.ones((1, 5, 5), bool)
    found = np.asarray(attention.attend(*given, mask, distance=jnp.asarray(distance)))
    for h, slope in enumerate((2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8)):
        scores = query[0, :, h] @ key[0, :, h].T / np.sqrt(8) - slope * distance[0]
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        assert np.allclose(found[0, :, h], weights @ value[0, :, h], atol=2e-6)


def test_dropout_keeps_the_mean_and_depends_on_the_rows_own_key():
    keys = jax.random.split(jax.random.key(0), 4)
    x = jnp.ones((4, 50, 40))
    dropped = np.asarray(dropout.rows(x, 0.25, keys))
    values, counts = np.unique(dropped, return_counts=True)
    assert np.allclose(values, [0.0, 4 / 3])
    assert abs(counts[0] / dropped.size - 0.25) < 4 * np.sqrt(0.25 * 0.75 / dropped.size)
    swapped = np.asarray(dropout.rows(x[:2], 0.25, keys[2:]))
    assert np.array_equal(swapped, dropped[2:])
    assert not np.array_equal(dropped[0], dropped[1])


def test_no_keys_and_no_rate_mean_no_dropout():
    x = jnp.ones((2, 3))
    assert dropout.rows(x, 0.5, None) is x
    assert dropout.rows(x, 0.0, jax.random.split(jax.random.key(0), 2)) is x

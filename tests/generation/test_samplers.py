"""Sampling: the exact sets of tokens that may be drawn, and their frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.generation import decoding, samplers
from research.generation.decoding import DecodingConfig

PROBABILITIES = np.array([0.05, 0.4, 0.1, 0.25, 0.2])
LOGITS = jnp.log(jnp.asarray(PROBABILITIES, jnp.float32))[None]


def kept(logits: jax.Array) -> list[set[int]]:
    return [set(np.flatnonzero(np.isfinite(row)).tolist()) for row in np.asarray(logits)]


def draws(logits: jax.Array, count: int, seed: int = 0) -> np.ndarray:
    """`count` draws from one distribution, each with the key of its own position."""
    position = jnp.arange(count)
    keys = samplers.row_keys(jnp.uint32(seed), jnp.zeros(count, jnp.uint32), position)
    return np.asarray(samplers.draw(jnp.broadcast_to(logits, (count, logits.shape[-1])), keys))


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, {1}),
        (2, {1, 3}),
        (3, {1, 3, 4}),
        (4, {1, 2, 3, 4}),
        (5, {0, 1, 2, 3, 4}),
        (99, {*range(5)}),
    ],
)
def test_top_k_keeps_the_k_most_probable(k, expected):
    assert kept(samplers.top_k(LOGITS, k)) == [expected]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (1e-9, {1}),
        (0.39, {1}),
        (0.41, {1, 3}),  # 0.4 alone does not reach it: the one that crosses belongs to it
        (0.64, {1, 3}),
        (0.66, {1, 3, 4}),
        (0.94, {1, 2, 3, 4}),
        (0.96, {0, 1, 2, 3, 4}),
        (1.0, {0, 1, 2, 3, 4}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, expected):
    assert kept(samplers.top_p(LOGITS, p)) == [expected]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (1e-6, {0, 1, 2, 3, 4}),
        (0.12, {0, 1, 2, 3, 4}),
        (0.13, {1, 2, 3, 4}),  # 0.05 is 0.125 times 0.4
        (0.26, {1, 3, 4}),
        (0.6, {1, 3}),
        (0.63, {1}),
        (1.0, {1}),
    ],
)
def test_min_p_keeps_what_is_nearly_as_probable_as_the_most_probable(p, expected):
    assert kept(samplers.min_p(LOGITS, p)) == [expected]
    assert kept(samplers.min_p(LOGITS + 7, p)) == [expected]


def test_a_penalty_makes_seen_tokens_less_probable_whatever_the_sign():
    tokens, lengths = jnp.asarray([[1, 3, 3, 2], [0, 0, 4, 4]]), jnp.asarray([3, 2])
    seen = samplers.seen_tokens(tokens, lengths, 6)
    assert seen.tolist() == [[False, True, False, True, False, False], [True] + [False] * 5]
    logits = jnp.asarray([[1.0, -2.0, 3.0, 4.0, -jnp.inf, 0.0]] * 2)
    made = samplers.penalise(logits, seen, 2.0)
    assert made.tolist() == [
        [1.0, -4.0, 3.0, 2.0, -np.inf, 0.0],
        [0.5, -2.0, 3.0, 4.0, -np.inf, 0.0],
    ]
    np.testing.assert_array_equal(samplers.penalise(logits, seen, 1.0), logits)


def test_what_is_kept_is_not_changed():
    filters = (samplers.top_k(LOGITS, 3), samplers.top_p(LOGITS, 0.7), samplers.min_p(LOGITS, 0.3))
    for filtered in filters:
        finite = np.isfinite(np.asarray(filtered))
        np.testing.assert_array_equal(np.asarray(filtered)[finite], np.asarray(LOGITS)[finite])


def test_filters_agree_with_sorting_on_random_logits():
    logits = np.random.default_rng(0).normal(0, 3, (40, 257)).astype(np.float32)
    order = np.argsort(-logits, axis=-1, kind="stable")
    probability = np.asarray(jax.nn.softmax(logits))
    by_k, by_p = kept(samplers.top_k(logits, 17)), kept(samplers.top_p(logits, 0.8))
    for row, ranked in enumerate(order):
        assert by_k[row] == set(ranked[:17].tolist())
        reached = np.cumsum(probability[row, ranked].astype(np.float64))
        assert by_p[row] == set(ranked[: int(np.argmax(reached >= 0.8)) + 1].tolist())


def test_top_p_counts_only_what_top_k_left():
    # Of 0.4 and 0.25 the first has 0.615 once they are renormalised.
    assert kept(samplers.top_p(samplers.top_k(LOGITS, 2), 0.6)) == [{1}]
    assert kept(samplers.top_p(LOGITS, 0.6)) == [{1, 3}]


def test_equal_logits_stay_together():
    flat = jnp.zeros((1, 6))
    assert kept(samplers.top_k(flat, 2)) == [set(range(6))]
    assert kept(samplers.top_p(flat, 0.3)) == [set(range(6))]


def test_rows_are_filtered_each_by_itself():
    logits = jnp.log(jnp.asarray([[0.97, 0.01, 0.02], [0.3, 0.3, 0.4]]))
    assert kept(samplers.top_p(logits, 0.9)) == [{0}, {0, 1, 2}]


def test_forbidden_tokens_are_never_kept_nor_drawn():
    allowed = jnp.asarray([True, False, True, False, True])
    logits = samplers.only(LOGITS, allowed)
    for filtered in (logits, samplers.top_k(logits, 4), samplers.top_p(logits, 0.999)):
        assert kept(filtered)[0] <= {0, 2, 4}
        assert set(draws(filtered, 300).tolist()) <= {0, 2, 4}
    assert samplers.greedy(logits).tolist() == [4]


def test_greedy_takes_the_first_of_the_highest():
    assert samplers.greedy(jnp.asarray([[1.0, 3.0, 3.0], [5.0, 0.0, 1.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_at_a_temperature(temperature):
    count = 20_000
    expected = PROBABILITIES ** (1 / temperature)
    expected *= count / expected.sum()
    logits = samplers.cool(LOGITS, temperature)
    seen = np.bincount(draws(logits, count), minlength=5)
    chi_square = float(((seen - expected) ** 2 / expected).sum())
    assert chi_square < 23.5  # four degrees of freedom: beyond it once in 10,000 seeds


def test_filtered_draws_follow_the_renormalised_probabilities():
    count = 20_000
    seen = np.bincount(draws(samplers.top_k(LOGITS, 3), count), minlength=5)
    expected = np.array([0.0, 0.4, 0.0, 0.25, 0.2]) / 0.85 * count
    assert seen[[0, 2]].tolist() == [0, 0]
    some = expected > 0
    assert ((seen[some] - expected[some]) ** 2 / expected[some]).sum() < 18.5  # two degrees


def test_the_coldest_draw_is_greedy_and_finite():
    logits = samplers.cool(jnp.asarray([[900.0, -900.0, 899.9]]), decoding.COLDEST)
    assert set(draws(logits, 50).tolist()) == {0}
    assert DecodingConfig(temperature=0.0).greedy and not DecodingConfig(temperature=0.01).greedy


def test_keys_depend_on_seed_id_and_position_alone():
    def numbers(seed: int, ids: list[int], positions: list[int]) -> list:
        keys = samplers.row_keys(jnp.uint32(seed), jnp.asarray(ids), jnp.asarray(positions))
        return jax.random.key_data(keys).tolist()

    one = numbers(3, [7], [20])[0]
    assert numbers(3, [1, 7, 2], [5, 20, 20])[1] == one
    others = [numbers(4, [7], [20])[0], numbers(3, [8], [20])[0], numbers(3, [7], [21])[0]]
    assert one not in others and numbers(3, [20], [7])[0] != one


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (DecodingConfig(temperature=-0.1), "temperature=-0.1"),
        (DecodingConfig(temperature=float("nan")), "temperature=nan"),
        (DecodingConfig(top_k=-1), "top_k=-1"),
        (DecodingConfig(top_p=0.0), "top_p=0.0"),
        (DecodingConfig(top_p=1.1), "top_p=1.1"),
        (DecodingConfig(min_p=-0.1), "min_p=-0.1"),
        (DecodingConfig(min_p=1.1), "min_p=1.1"),
        (DecodingConfig(min_p=float("nan")), "min_p=nan"),
        (DecodingConfig(repetition_penalty=0.0), "repetition_penalty=0.0"),
        (DecodingConfig(repetition_penalty=float("inf")), "repetition_penalty=inf"),
        (DecodingConfig(seed=-1), "seed=-1"),
    ],
)
def test_a_value_out_of_range_is_named(wrong, name):
    with pytest.raises(UserError, match=name):
        decoding.check(wrong)

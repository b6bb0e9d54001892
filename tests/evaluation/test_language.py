import math

import pytest

from research.evaluation import language


def test_causal_numbers():
    numbers = language.finish({"loss": 10 * math.log(8), "tokens": 10.0, "bytes": 30.0})
    assert numbers == {
        "loss": pytest.approx(math.log(8)),
        "perplexity": pytest.approx(8),
        "bits_per_byte": pytest.approx(1.0),
    }


def test_bytes_may_be_left_out():
    assert set(language.finish({"loss": 1.0, "tokens": 2.0})) == {"loss", "perplexity"}


def test_masked_and_next_sentence_numbers_of_one_dict():
    numbers = language.finish(
        {
            "masked_loss": 6.0,
            "masked_correct": 3.0,
            "masked": 4.0,
            "next_sentence_loss": 1.0,
            "next_sentence_correct": 1.0,
            "pairs": 2.0,
        }
    )
    assert numbers == {
        "masked_loss": 1.5,
        "masked_perplexity": pytest.approx(math.exp(1.5)),
        "masked_accuracy": 0.75,
        "next_sentence_loss": 0.5,
        "next_sentence_accuracy": 0.5,
    }


def test_a_perplexity_beyond_floats_is_infinite():
    assert language.perplexity(1e4) == math.inf


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"loss": 1.0, "tokens": 0.0}, "tokens is 0.0"),
        ({"loss": 1.0, "tokens": 2.0, "bytes": 0.0}, "bytes is 0.0"),
        ({"loss": 1.0}, "'tokens'"),
        ({"bytes": 1.0}, "'tokens', 'loss'"),
        ({"masked": 1.0, "masked_loss": 1.0}, "'masked_correct'"),
        ({"pair": 1.0}, "unknown counts"),
    ],
)
def test_incomplete_counts_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        language.finish(counts)

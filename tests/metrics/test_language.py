import math

import pytest

from research.metrics import language


def test_causal_numbers():
    assert language.of_tokens(10 * math.log(8), 10.0, 30.0) == {
        "loss": pytest.approx(math.log(8)),
        "perplexity": pytest.approx(8),
        "bits_per_byte": pytest.approx(1.0),
    }


def test_bytes_may_be_left_out():
    assert set(language.of_tokens(1.0, 2.0)) == {"loss", "perplexity"}


def test_a_perplexity_beyond_floats_is_infinite():
    assert language.perplexity(1e4) == math.inf


@pytest.mark.parametrize("counts", [(1.0, 0.0), (1.0, 2.0, 0.0)])
def test_nothing_counted_is_refused(counts):
    with pytest.raises(ValueError, match="nothing was counted"):
        language.of_tokens(*counts)

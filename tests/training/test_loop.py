"""What the loop says of itself: speeds."""

import types

import pytest

from research.training import loop


@pytest.mark.parametrize("peak,shown", [(1e12, True), (1e-3, False)])
def test_a_share_of_the_peak_above_one_is_left_out(monkeypatch, peak, shown):
    monkeypatch.setattr(loop.flops, "matmul_peak", lambda dtype: peak)
    run = types.SimpleNamespace(
        model=types.SimpleNamespace(dtype="float32"), mesh=types.SimpleNamespace(size=1)
    )
    clock = loop._Clock(run)
    clock._flops = 1.0
    assert ("mfu" in clock.read()) == shown

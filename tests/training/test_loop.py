"""What the loop says of itself: speeds, and what an interrupt costs."""

import signal
import types

import pytest

from research import cli
from research.training import loop


def test_a_second_ctrl_c_says_what_is_lost(capfd):
    def run():
        with loop._Stop(20) as stop:
            stop.done = 37
            assert not stop.after(37)
            signal.raise_signal(signal.SIGINT)
            assert stop.after(37)
            assert "stopping after this step, with a checkpoint" in capfd.readouterr().err
            signal.raise_signal(signal.SIGINT)
        return 0

    assert cli.guarded(run) == 130
    said = "interrupted: 17 steps are lost; the newest checkpoint is that of step 20\n"
    assert capfd.readouterr().err == said


@pytest.mark.parametrize("peak,shown", [(1e12, True), (1e-3, False)])
def test_a_share_of_the_peak_above_one_is_left_out(monkeypatch, peak, shown):
    monkeypatch.setattr(loop.flops, "matmul_peak", lambda dtype: peak)
    run = types.SimpleNamespace(
        model=types.SimpleNamespace(dtype="float32"), mesh=types.SimpleNamespace(size=1)
    )
    clock = loop._Clock(run)
    clock._flops = 1.0
    assert ("mfu" in clock.read()) == shown

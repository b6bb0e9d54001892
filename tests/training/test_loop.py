"""The speed that a run reports, and the lock of its workdir."""

import types

import pytest
from etils import epath

from research import lock
from research.errors import UserError
from research.run import flops
from research.training import loop
from research.training.clock import Clock
from tests import helpers


@pytest.mark.parametrize("peak,shown", [(1e12, True), (1e-3, False)])
def test_a_share_of_the_peak_above_one_is_left_out(monkeypatch, peak, shown):
    monkeypatch.setattr(flops, "matmul_peak", lambda dtype: peak)
    run = types.SimpleNamespace(
        model=types.SimpleNamespace(dtype="float32"), mesh=types.SimpleNamespace(size=1)
    )
    clock = Clock(run, 0.0)
    clock._flops = 1.0
    assert ("mfu" in clock.read()) == shown


def test_a_second_run_in_a_workdir_is_refused_and_writes_nothing(tmp_path):
    config = helpers.run_config("bert", tmp_path, steps=1)
    with lock.alone(epath.Path(tmp_path / "run"), lock.TRAINING):
        with pytest.raises(
            UserError, match=r"the process \d+ on host .* \(since 20.*\) is at work"
        ):
            loop.train(config, str(tmp_path / "run"), quiet=True)
        assert [file.name for file in (tmp_path / "run").iterdir()] == [lock.TRAINING]
    assert not (tmp_path / "cache").exists(), "before texts are tokenised"

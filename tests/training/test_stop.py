"""Ctrl-C and SIGTERM: what they make of a run."""

import signal

from research import cli
from research.training.stop import Stop


def test_a_second_ctrl_c_says_what_is_lost(capfd):
    def run():
        with Stop(20) as stop:
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

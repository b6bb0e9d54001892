"""A step that hangs, and work that may take longer than a step."""

import threading
import time

import pytest

from research.sharding import peers
from research.training import faults, watchdog
from research.training.watchdog import Watchdog


@pytest.fixture
def exits(monkeypatch):
    codes = []
    monkeypatch.setattr(peers, "exit_now", lambda code, together: codes.append(code))
    return codes


def test_a_step_that_does_not_end_is_told_with_every_threads_stack(exits, capfd):
    still = threading.Event()

    def somewhere_else():
        still.wait()

    threading.Thread(target=somewhere_else, daemon=True).start()
    with Watchdog(0.2, 20) as dog:
        dog.ended(1)
        dog.ended(2)
        until = time.monotonic() + 20
        while not exits and time.monotonic() < until:
            time.sleep(0.05)
    still.set()
    said = capfd.readouterr().err
    assert exits == [4]
    assert "in somewhere_else" in said and "in test_a_step_that_does_not_end" in said
    last = said.splitlines()[-1]
    assert last.startswith("error: hung: step 3 has not ended in 0.") and "is 0.2 s" in last


def test_what_takes_longer_may(exits, monkeypatch):
    with Watchdog(0.2, 20) as dog:
        time.sleep(0.5)  # the first step, which is compiled
        dog.ended(1)
        with dog.slow("an evaluation"):
            time.sleep(0.5)
        now = [time.monotonic()]
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
        for step in range(2, 200):
            now[0] += 0.1
            dog.ended(step)
        now[0] += 1.9  # 20 times the median of a step are 2 s
        time.sleep(0.2)
        assert not exits
    with Watchdog(0, 20):  # nobody looks
        now[0] += 1e9
        time.sleep(0.1)
    assert not exits


@pytest.mark.parametrize("text", ["kill", "stop:0:1", "kill:a:1", "kill:0:1:2"])
def test_a_fault_that_cannot_be_is_refused(monkeypatch, text):
    monkeypatch.setenv(faults.VARIABLE, text)
    with pytest.raises(faults.UserError, match="KIND:PROCESS:STEP"):
        faults.before(1)

"""How runs share a machine."""

import pytest

from research.errors import UserError
from research.experiments import lanes


@pytest.mark.parametrize(
    ("machine", "parallel", "devices", "found"),
    [
        (("gpu", 8), 0, 0, 1),
        (("gpu", 8), 0, 2, 4),
        (("gpu", 8), 3, 2, 3),
        (("gpu", 8), 0, 3, 2),
        (("tpu", 4), 0, 1, 4),
        (("cpu", 1), 5, 0, 5),
    ],
)
def test_as_many_at_a_time_as_the_devices_allow(monkeypatch, machine, parallel, devices, found):
    monkeypatch.setattr(lanes, "machine", lambda: machine)
    assert lanes.count(parallel, devices) == found


@pytest.mark.parametrize(
    ("machine", "parallel", "devices", "message"),
    [
        (("cpu", 1), 0, 1, "shares out GPUs or TPU chips, and this machine has none"),
        (("gpu", 8), 0, 9, "--devices=9 for 1 runs at a time are more than the 8"),
        (("gpu", 8), 5, 2, "--devices=2 for 5 runs at a time are more than the 8"),
        (("tpu", 4), 0, 2, "a run has one chip or all; give 1"),
    ],
)
def test_devices_that_there_are_not(monkeypatch, machine, parallel, devices, message):
    monkeypatch.setattr(lanes, "machine", lambda: machine)
    with pytest.raises(UserError, match=message):
        lanes.count(parallel, devices)


def test_each_lane_sees_its_own_devices():
    assert lanes.environment(0, 0) == {}
    seen = [lanes.environment(lane, 2)["CUDA_VISIBLE_DEVICES"] for lane in range(3)]
    assert seen == ["0,1", "2,3", "4,5"]


def test_this_machine_is_asked():
    backend, count = lanes.machine()
    assert backend == "cpu" and count >= 1

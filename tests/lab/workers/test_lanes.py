"""How runs share a machine."""

import pytest

from research.errors import UserError
from research.lab.workers import lanes


@pytest.mark.parametrize(
    ("machine", "parallel", "devices", "found"),
    [
        (("gpu", 8), 0, 0, 1),
        (("gpu", 8), 0, 2, 4),
        (("gpu", 8), 3, 2, 3),
        (("gpu", 8), 0, 3, 2),
        (("tpu", 4), 0, 1, 4),
        (("cpu", 1), 5, 0, 5),
        (("gpu", 1), 3, 0, 3),
    ],
)
def test_as_many_at_a_time_as_the_devices_allow(monkeypatch, machine, parallel, devices, found):
    monkeypatch.setattr(lanes, "machine", lambda: machine)
    assert lanes.count(parallel, devices) == found


@pytest.mark.parametrize(
    ("machine", "parallel", "devices", "message"),
    [
        (("cpu", 1), 0, 1, "divides GPUs or TPU chips, and this machine has none"),
        (("gpu", 8), 0, 9, "--devices=9 for 1 runs at a time is more than the 8"),
        (("gpu", 8), 5, 2, "--devices=2 for 5 runs at a time is more than the 8"),
        (("tpu", 4), 0, 2, "a run gets one chip or all; give 1"),
        (("tpu", 4), 2, 0, "--parallel=2: a TPU chip belongs to one process; --devices=1"),
    ],
)
def test_devices_that_there_are_not(monkeypatch, machine, parallel, devices, message):
    monkeypatch.setattr(lanes, "machine", lambda: machine)
    with pytest.raises(UserError, match=message):
        lanes.count(parallel, devices)


@pytest.mark.parametrize(
    ("given", "found"),
    [("", ["0,1", "2,3"]), ("4,5,6,7", ["4,5", "6,7"]), ("GPU-a,GPU-b", ["GPU-a,GPU-b", ""])],
)
def test_each_lane_sees_its_own_devices_of_those_that_may_be_seen(monkeypatch, given, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    seen = [lanes.environment(lane, 2, 2)["CUDA_VISIBLE_DEVICES"] for lane in range(2)]
    assert seen == found


def test_runs_that_share_a_gpu_share_its_memory(monkeypatch):
    names = "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert lanes.environment(0, 1, 0) == {}
    assert lanes.environment(1, 3, 0) == {"XLA_CLIENT_MEM_FRACTION": "0.30"}
    for name in names:  # jaxlib refuses both at once
        with monkeypatch.context() as patch:
            patch.setenv(name, "0.2")
            assert lanes.environment(1, 3, 0) == {}


def test_this_machine_is_asked():
    backend, count = lanes.machine()
    assert backend == "cpu" and count >= 1

"""A disk that is full for a while."""

import errno
import io

import pytest

from research.monitoring import appended
from research.monitoring.appended import Appended
from research.monitoring.writers import MetricWriter


@pytest.fixture
def disk(monkeypatch):
    """A disk with `room` bytes left, for every file that is opened by `Appended`."""

    class Disk(io.FileIO):
        room = 10**9

        def write(self, content):
            if not Disk.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            part = bytes(content[: Disk.room])
            Disk.room -= len(part)
            return super().write(part)

    monkeypatch.setattr(appended, "open", lambda path, mode, buffering: Disk(path, "ab"), False)
    return Disk


def test_what_a_full_disk_refuses_is_written_when_there_is_room(disk, tmp_path, capfd):
    file = Appended(tmp_path / "lines")
    file.add(b"first\n")
    disk.room = 3
    file.add(b"second\n")
    file.add(b"third\n")
    assert (tmp_path / "lines").read_bytes() == b"first\nsec"
    assert capfd.readouterr().err == (
        f"warning: {tmp_path / 'lines'}: No space left on device; keeping its lines until there "
        "is room\n"
    )
    disk.room = 10**9
    file.add(b"fourth\n")
    assert (tmp_path / "lines").read_bytes() == b"first\nsecond\nthird\nfourth\n"
    file.close()
    assert capfd.readouterr().err == f"warning: {tmp_path / 'lines'} can be written again\n"


def test_what_is_lost_is_counted(disk, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(appended, "MOST_KEPT", 10)
    file = Appended(tmp_path / "lines")
    disk.room = 0
    for line in (b"123456\n", b"1\n", b"too many\n"):
        file.add(line)
    file.close()
    assert "18 bytes of" in capfd.readouterr().err.splitlines()[-1]


def test_numbers_texts_and_events_of_a_run_survive_a_full_disk(disk, tmp_path, capfd):
    for folder, full in (("whole", False), ("full", True)):
        with MetricWriter(tmp_path / folder) as writer:
            disk.room = 25 if full else 10**9
            for step in range(1, 4):
                writer.metrics(step, {"loss": 1.5 / step})
                writer.timing(step, {"seconds": 2})
                writer.text(step, "samples", "Nam ite ale.")
            disk.room = 10**9
    for name in ("metrics.jsonl", "timing.jsonl", "texts.jsonl"):
        whole = (tmp_path / "whole" / name).read_bytes()
        assert len(whole.splitlines()) == 3
        assert (tmp_path / "full" / name).read_bytes() == whole
    (whole,), (full,) = ((tmp_path / f / "tensorboard").iterdir() for f in ("whole", "full"))
    assert whole.stat().st_size == full.stat().st_size
    told = capfd.readouterr().err
    assert told.count("No space left on device") == 4 and told.count("can be written again") == 4

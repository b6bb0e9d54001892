"""Saves that fail, and saves that write damaged steps."""

import errno
import os
import time
import types
from pathlib import Path

import pytest

from research.checkpoints import checkpoint
from research.checkpoints import folder as checkpoint_folder
from research.checkpoints import saving as checkpoint_saving
from research.checkpoints.checkpoint import Checkpoints
from research.errors import NotSavedError
from tests.checkpoints.checkpoint_samples import (
    CONFIG,
    META,
    TOKENIZER,
    assert_same,
    make_state,
    restore,
)
from tests.checkpoints.test_folder import flip

TEXTS = {"meta": META, "tokenizer_json": TOKENIZER, "config": CONFIG}
STATE = make_state(1)


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full while `full` is set, for the texts of a checkpoint."""
    write, found = checkpoint_folder.bucket.write_whole, type("Disk", (), {"full": False})

    def refuse(file, content):
        if found.full and file.name == "SHA256SUMS":
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        write(file, content)

    monkeypatch.setattr(checkpoint_folder.bucket, "write_whole", refuse)
    return found


@pytest.fixture
def damage(monkeypatch):
    """Flips a byte of each of the next `steps` steps, between their commit and the check."""
    flush, found = checkpoint_saving.bucket.flush, type("Damage", (), {"steps": 0})

    def change(place):
        flush(place)
        if place.name.isdecimal() and found.steps:
            found.steps -= 1
            flip(Path(place))

    monkeypatch.setattr(checkpoint_saving.bucket, "flush", change)
    monkeypatch.setattr(checkpoint_saving, "SECONDS_UNTIL_SEEN", 0)
    return found


def test_a_run_goes_on_while_nothing_can_be_saved(disk, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSES", (0.0, 100.0))
    with Checkpoints(str(tmp_path), keep=1) as checkpoints:
        checkpoints.save(1, **STATE, **TEXTS)
        checkpoints.wait()
        disk.full = True
        assert checkpoints.save(2, **STATE, **TEXTS), "it fails in the background"
        checkpoints.wait()
        assert capfd.readouterr().err == (
            "warning: the checkpoint of step 2 is not saved: No space left on device; the run goes "
            "on and tries again\n"
        )
        assert checkpoints.latest() == 1, "the older one stays"
        assert checkpoints.overdue()
        checkpoints.save(3, **STATE, **TEXTS)
        checkpoints.wait()
        assert not checkpoints.overdue(), "the second pause is longer"
        assert checkpoints.latest() == 1
        disk.full = False
        checkpoints.save(4, **make_state(4), **TEXTS)
        checkpoints.wait()
        assert not checkpoints.overdue() and os.listdir(tmp_path) == ["4"]
    assert_same(restore(tmp_path)[1], make_state(4))


def test_the_last_save_is_tried_again_and_then_said(disk, tmp_path, monkeypatch):
    slept = []
    clock = types.SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    monkeypatch.setattr(checkpoint, "time", clock)
    state = (*STATE.values(), *TEXTS.values())
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(1, *state)
        checkpoints.wait()
        disk.full = True
        text = r"step 2 could not be saved.*No space left.*the same command resumes from step 1"
        with pytest.raises(NotSavedError, match=text):
            checkpoints.save_surely(2, *state, pauses=(1, 2, 4))
        assert slept == [1, 2, 4]

        def freed(pause):
            disk.full = pause < 2

        clock.sleep = freed
        checkpoints.save_surely(2, *state, pauses=(1, 2, 4))
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
    disk.full = True
    with pytest.raises(NotSavedError, match="the last state could not be saved"):
        with Checkpoints(str(tmp_path)) as checkpoints:
            checkpoints.save(3, *state)


def test_what_is_written_is_read_back(damage, tmp_path, capfd, monkeypatch):
    with Checkpoints(str(tmp_path), keep=1) as checkpoints:
        checkpoints.save(1, **STATE, **TEXTS)
        checkpoints.wait()
        damage.steps = 1
        checkpoints.save(2, **STATE, **TEXTS)
        checkpoints.wait()
        told = capfd.readouterr().err
        assert "step 2 is not saved: what is on disk is damaged (params: " in told
        assert len(told.splitlines()) == 1
        assert sorted(os.listdir(tmp_path)) == ["1", "2.damaged"], "the good one is not removed"
        damage.steps = 1
        checkpoints.save_surely(3, *STATE.values(), *TEXTS.values(), pauses=(0,))
    assert sorted(os.listdir(tmp_path)) == ["2.damaged", "3", "3.damaged"]
    assert restore(tmp_path)[0].step == 3
    damage.steps = 1
    with Checkpoints(str(tmp_path), check=False) as checkpoints:
        checkpoints.save(4, **STATE, **TEXTS)
    assert capfd.readouterr().err.count("is not saved") == 1, "with check=False nothing is read"

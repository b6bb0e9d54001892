"""A real disk that fills up during a run, for a while or for good."""

import os
import subprocess
from pathlib import Path

import pytest

from research import cli
from research.checkpoints import checkpoint
from research.checkpoints.folder import steps_in
from research.data.loader import Ahead
from research.errors import NOT_SAVED
from research.training import loop
from tests import helpers
from tests.integration.conftest import write_config

STEPS = 10


@pytest.fixture
def disk(tmp_path):
    """A file system of 16 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def train(monkeypatch, folder: Path, workdir: Path, full_at: int = 0, free_at: int = 0) -> int:
    """Returns the exit code of a run whose disk fills up before step `full_at` and is freed before
    `free_at`."""
    filler = workdir.parent / "filler"

    class Watched(Ahead):
        training = True  # the first one of a run; those of its evaluations follow

        def __init__(self, data, start, *rest):
            super().__init__(data, start, *rest)
            self.step = start if Watched.training else -STEPS
            Watched.training = False

        def __next__(self):
            self.step += 1
            if self.step == full_at:
                with open(filler, "wb", buffering=0) as file:
                    try:
                        while True:
                            file.write(b"0" * 1024)
                    except OSError:
                        pass
            if self.step == free_at:
                filler.unlink()
            return super().__next__()

    monkeypatch.setattr(loop, "Ahead", Watched)
    values = helpers.run_values("gpt", folder, steps=STEPS, checkpoint_every=2, keep=1)
    values["train"]["samples"] = 1
    values["train"]["eval_every"] = 3
    config = write_config(folder / "config.py", values)
    return cli.main(["train", f"--config={config}", f"--workdir={workdir}"])


@pytest.mark.long
def test_a_run_outlives_a_full_disk(disk, tmp_path, monkeypatch, capfd):
    whole, run = tmp_path / "whole", disk / "run"
    assert train(monkeypatch, tmp_path, whole) == 0
    capfd.readouterr()
    assert train(monkeypatch, tmp_path, run, full_at=4, free_at=9) == 0
    told = capfd.readouterr().err
    assert "step 4 is not saved: No space left on device" in told
    for name in ("metrics.jsonl", "texts.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert steps_in(checkpoint.absolute(str(run / "checkpoints"))) == [STEPS]

    monkeypatch.setattr(checkpoint, "PAUSES", (0.5, 0.5))
    monkeypatch.setattr(checkpoint.Checkpoints.save_surely, "__kwdefaults__", {
        "check": True, "pauses": (0.5, 0.5)})  # fmt: skip
    again = disk / "again"
    assert train(monkeypatch, tmp_path, again, full_at=4) == NOT_SAVED
    told = capfd.readouterr().err
    assert "Traceback" not in told and f"step {STEPS} could not be saved in {again}" in told
    assert "the same command resumes from step 2" in told
    assert train(monkeypatch, tmp_path, disk / "third") == 2
    refused = capfd.readouterr().err  # of its folder or the first one in it, which fits or does not
    assert refused.startswith(f"error: cannot write to {disk / 'third'}")
    assert "No space left on device" in refused and "Traceback" not in refused
    (disk / "filler").unlink()
    assert train(monkeypatch, tmp_path, again) == 0
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()

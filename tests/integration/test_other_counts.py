"""A run that goes on with another number of processes or devices: the same data, the same numbers
to the last digits of float32."""

import json
import shutil

import pytest

from tests.integration.test_processes import config, metrics, together

STEPS, EVERY = 6, 2
FIRST_DIGITS = 1e-6  # relative: how far losses may be apart


def train(file, workdir, processes, devices):
    """Trains to the end, or goes on, and returns the lines of metrics.jsonl."""
    command = ["train", f"--config={file}", f"--workdir={workdir}"]
    together(workdir.parent / "log", processes, *command, devices=devices)
    return metrics(workdir)


def back(workdir, step):
    """Takes the run back to a step."""
    for folder in (workdir / "checkpoints").iterdir():
        if folder.name.isdecimal() and int(folder.name) > step:
            shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bert", "gpt", "sentiment"])
@pytest.mark.parametrize(
    "split", [[(2, 1), (1, 1), (4, 1)], [(1, 1), (1, 8), (1, 2)]], ids=["processes", "devices"]
)
def test_another_number_changes_no_number(kind, split, tmp_path):
    file = config(
        tmp_path / "data", kind, steps=STEPS, checkpoint_every=EVERY, eval_every=EVERY, keep=9
    )
    whole = train(file, tmp_path / "whole", *split[0])
    for part, (processes, devices) in enumerate(split[1:], start=1):
        back(tmp_path / "whole", part * EVERY)
        found = train(file, tmp_path / "whole", processes, devices)
        assert [line["step"] for line in found] == [line["step"] for line in whole]
        for line, expected in zip(found, whole, strict=True):
            losses = {name: value for name, value in line.items() if "loss" in name}
            assert losses, json.dumps(line)
            same = {name: expected[name] for name in losses}
            assert losses == pytest.approx(same, rel=FIRST_DIGITS), (processes, devices)

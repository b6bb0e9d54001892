"""A run that resumes on other devices and another mesh: the same batches, the same numbers."""

import dataclasses
import json
import shutil

import jax
import pytest

from research.config import from_values
from research.sharding import mesh as meshes
from research.sharding.mesh import MeshConfig
from research.training import loop
from tests import helpers

STEPS, BEFORE = 4, 2  # steps in all, and those before the change
MESHES = {
    "1": MeshConfig(data=1),
    "8": MeshConfig(data=8),
    "fsdp 8": MeshConfig(data=1, fsdp=8),
    "2x4": MeshConfig(data=1, fsdp=4, tensor=2),
    "4x2": MeshConfig(data=2, fsdp=2, tensor=2),
}


def train(kind, folder, mesh, monkeypatch):
    """Trains to the end on a mesh, and returns the lines of metrics.jsonl."""
    values = helpers.run_values(
        kind, folder, steps=STEPS, checkpoint_every=BEFORE, eval_every=BEFORE
    )
    config = dataclasses.replace(from_values(values, "test"), mesh=MESHES[mesh])
    if mesh == "1":
        monkeypatch.setattr(meshes, "_all_devices", lambda: jax.devices()[:1])
    else:
        monkeypatch.undo()
    loop.train(config, str(folder / "run"), quiet=True)
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def back(folder):
    """Takes the run back to the step of the change."""
    for step in (folder / "run/checkpoints").glob(f"*{STEPS}"):
        shutil.rmtree(step)


@pytest.mark.parametrize(
    ("kind", "first", "others"),
    [
        ("sentiment", "fsdp 8", ("2x4",)),
        pytest.param("sentiment", "1", ("8", "4x2"), marks=pytest.mark.long),
        pytest.param("bert", "2x4", ("4x2", "1", "8"), marks=pytest.mark.long),
        pytest.param("gpt", "8", ("fsdp 8", "2x4", "1"), marks=pytest.mark.long),
    ],
)
def test_a_run_goes_on_on_another_mesh(kind, first, others, tmp_path, monkeypatch):
    expected = train(kind, tmp_path, first, monkeypatch)
    for other in others:
        back(tmp_path)
        found = train(kind, tmp_path, other, monkeypatch)
        assert found[: -len(expected) // 2] == expected[: -len(expected) // 2], "before the change"
        assert [line["step"] for line in found] == [line["step"] for line in expected]
        for line, same in zip(found, expected, strict=True):
            assert line == pytest.approx(same, rel=2e-4), other

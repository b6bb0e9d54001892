"""Invariant: one device and eight give the same loss and gradients, however they are split."""

import dataclasses

import jax
import numpy as np
import pytest

from research.data.loader import device_batch
from research.models import params as parameters
from research.objectives.objective import heads_of
from research.run import step as steps
from research.sharding import rules
from research.sharding.mesh import MeshConfig, batch_sharding, make_mesh, replicated, use
from tests import helpers

WHOLE_HEADS = {"heads": None, "kv_heads": None}  # two heads do not divide by four
MESHES = {
    "data": MeshConfig(data=8),
    "fsdp": MeshConfig(data=1, fsdp=8),
    "data and tensor": MeshConfig(data=4, tensor=2),
    "mixed": MeshConfig(data=2, fsdp=2, tensor=2),
    "context": MeshConfig(data=2, context=4),
    "sequence": MeshConfig(data=1, fsdp=2, tensor=4, sequence=True, rules=WHOLE_HEADS),
    "all": MeshConfig(data=1, fsdp=2, context=2, tensor=2, sequence=True),
    "rules": MeshConfig(data=4, tensor=2, rules={"mlp": None, "vocab": "fsdp"}),
}
SLOW = {"bert": ("rules", "sequence"), "gpt": ("data", "fsdp", "data and tensor", "context")}
FAMILIES = {"bert": helpers.MASKED_AND_NEXT, "gpt": helpers.CAUSAL}


class Case:
    """A family's model, params and packed batches."""

    def __init__(self, family: str, folder):
        chosen = FAMILIES[family]
        tokens = helpers.word_pieces() if family == "bert" else helpers.byte_pairs()
        self.data, self.step = helpers.packed_and_padded(helpers.make_store(folder, tokens), chosen)
        self.model, self.objectives = helpers.pretraining_model(chosen)
        self.params = helpers.new_params(self.model, self.objectives)
        self.alone = self.gradients(MeshConfig(data=1), jax.devices()[:1])

    def gradients(self, config: MeshConfig, devices=None, accumulation: int = 1, remat="none"):
        """(gradients, counts) of the batch on a mesh."""
        model = dataclasses.replace(self.model, remat=remat)
        mesh = make_mesh(config, devices)
        heads = heads_of(self.objectives, self.model)
        placed = rules.shardings(
            parameters.logical_axes(self.model, heads),
            jax.eval_shape(lambda: self.params),
            mesh,
            rules.table(config.rules),
        )

        def gradients(params, batch):
            return steps.gradients(params, model, self.objectives, batch, None, accumulation)

        with use(mesh, config):
            function = jax.jit(
                gradients,
                in_shardings=(placed, batch_sharding(mesh)),
                out_shardings=(placed, replicated(mesh)),
            )
            batch = device_batch(self.data, self.step, batch_sharding(mesh))
            return function(jax.device_put(self.params, placed), batch)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    made = {}

    def get(family: str) -> Case:
        if family not in made:
            made[family] = Case(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


def combinations():
    for family in FAMILIES:
        for mesh in MESHES:
            slow = mesh in SLOW[family]
            marks = [pytest.mark.long] if slow else []
            yield pytest.param(family, mesh, marks=marks, id=f"{family}, {mesh}")


@pytest.mark.parametrize(("family", "mesh"), combinations())
def test_loss_and_gradients_are_those_of_one_device(cases, family, mesh, capfd):
    case = cases(family)
    grads, counts = case.gradients(MESHES[mesh])
    expected_grads, expected = case.alone
    for name, value in expected.items():
        assert float(counts[name]) == pytest.approx(float(value), rel=1e-5), name
    difference, where = helpers.worst(expected_grads, grads)
    assert difference < 1e-4, where
    split = [leaf for leaf in jax.tree.leaves(grads) if not leaf.is_fully_replicated]
    assert bool(split) == (mesh not in ("data", "context")), "the mesh split nothing"
    assert "full rematerialization" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("family", "remat"),
    [("bert", "dots"), pytest.param("gpt", "block", marks=pytest.mark.long)],
)
def test_with_accumulation_and_rematerialisation(cases, family, remat):
    case = cases(family)
    grads, counts = case.gradients(MESHES["all"], accumulation=2, remat=remat)
    expected_grads, expected = case.alone
    assert counts.keys() == expected.keys()
    difference, where = helpers.worst(expected_grads, grads)
    assert difference < 1e-4, where


def test_nothing_is_split_that_the_loss_needs_whole(cases):
    """Every gradient is finite and none is zero everywhere but where it must be."""
    grads, _ = cases("bert").alone
    for path, leaf in parameters.by_path(grads).items():
        assert np.isfinite(leaf).all() and np.any(leaf), path

"""A run planned on eight devices: placement, costs of a step, and refused plans."""

import dataclasses
import importlib.util
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from research import cli
from research.commands import plan as command
from research.config import Config
from research.errors import UserError
from research.lab.planning import compiled, plan, topology
from research.lab.planning.chips import CHIPS
from research.lab.planning.collectives import Collective
from research.objectives import ObjectivesConfig
from research.objectives.causal_lm import CausalLMConfig
from research.sharding.mesh import MeshConfig
from tests import helpers

MESHES = {
    "bert": MeshConfig(data=2, fsdp=4),
    "gpt": MeshConfig(data=1, fsdp=2, context=2, tensor=2),
}


def config(kind: str, folder, **model) -> Config:
    """Without dropout and with all logits at once, so that nothing is computed twice."""
    found = helpers.run_config(kind, folder, steps=3)
    shape = dataclasses.replace(
        found.model, width=64, mlp_width=256, dropout=0.0, attention_dropout=0.0, **model
    )
    if kind == "gpt":
        goal = ObjectivesConfig(causal_lm=CausalLMConfig(chunk=helpers.LENGTH))
        found = dataclasses.replace(found, objective=goal)
    train = dataclasses.replace(found.train, accumulation=1)
    return dataclasses.replace(found, model=shape, mesh=MESHES[kind], train=train)


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    made = {}

    def get(kind: str) -> plan.Plan:
        if kind not in made:
            chosen = config(kind, tmp_path_factory.mktemp(kind))
            made[kind] = plan.make(chosen, jax.devices(), "cpu")
        return made[kind]

    return get


@pytest.mark.parametrize("kind", MESHES)
def test_products_agree_with_the_formula(plans, kind):
    made = plans(kind)
    total = plan.total_flops(made) * made.run.mesh.size
    assert total == pytest.approx(plan.formula(made.run), rel=0.05)


@pytest.mark.parametrize("kind", MESHES)
def test_what_lies_where(plans, kind):
    run = plans(kind).run
    lines = plan.by_rule(run)
    sizes = [x.size for x in jax.tree.leaves(run.param_shapes)]
    assert sum(count for _, _, count, _ in lines) == sum(sizes)
    held = plan.bytes_of(run.state_shapes.params)
    assert sum(size for *_, size in lines) == held
    assert 4 * sum(sizes) / 8 <= held < 4 * sum(sizes)
    assert ("vocab, embed", "tensor, fsdp" if kind == "gpt" else "fsdp, -") in {
        line[:2] for line in lines
    }


def test_steps_and_their_memory(plans):
    encoder, decoder = plans("bert"), plans("gpt")
    assert [s.name for s in encoder.steps] == ["train", "evaluate"]
    assert [s.name for s in decoder.steps] == ["train", "evaluate", "decode"]
    for step in (*encoder.steps, *decoder.steps):
        assert step.fits and step.needed > step.kept > 0
    state = encoder.run.state_shapes
    kept = plan.bytes_of((state.params, state.opt_state))
    assert encoder.train.kept == pytest.approx(kept, rel=0.2) and encoder.train.kept > kept


def test_collectives_go_over_the_axes_of_the_mesh(plans):
    for kind, mesh in MESHES.items():
        axes = {axis for found in plans(kind).train.collectives for axis in found.axes}
        assert axes == {a for a in ("data", "fsdp", "context", "tensor") if getattr(mesh, a) > 1}


def test_the_report(plans):
    made = dataclasses.replace(plans("gpt"), chip=CHIPS["v5e"])
    text = "\n".join(command.report(made, price=1.5))
    for part in (
        "mesh        data=1, fsdp=2, context=2, tensor=2",
        "vocab, embed",
        "peak, decode step",
        "of 15.75",
        "all-gather over",
        "tokens/s",
        "at 1.5 per chip-hour",
    ):
        assert part in text
    found = plan.estimate(made)
    assert found.all_hidden == max(found.compute, found.memory, found.network)
    assert found.compute == plan.total_flops(made) / 197e12
    assert plan.estimate(plans("gpt")) is None, "of a processor no speed is published"


def not_fitting(folder, over: float) -> tuple[plan.Plan, Config]:
    """A plan whose train step needs `over` times the available memory."""
    chosen = config("bert", folder)
    step = compiled.Compiled("train", False, 1.0, over * CHIPS["v5e"].memory, 0.0, None, [])
    return plan.Plan(plan.build(chosen, jax.devices()), CHIPS["v5e"], 1, [step]), chosen


def test_changes_that_need_less_memory(tmp_path):
    found = dict(plan.remedies(*not_fitting(tmp_path, over=1.5)))
    assert list(found) == [
        "config.model.remat=block",
        "config.train.accumulation=2",
        "config.mesh.data=1, config.mesh.fsdp=8",
        "config.model.remat=block, config.mesh.data=1, config.mesh.fsdp=8",
    ]
    both = found["config.model.remat=block, config.mesh.data=1, config.mesh.fsdp=8"]
    assert both.model.remat == "block" and (both.mesh.data, both.mesh.fsdp) == (1, 8)
    much = dict(plan.remedies(*not_fitting(tmp_path, over=2.5)))
    assert "config.train.accumulation=2" not in much, "16 rows of 8 devices are cut into two"


def test_a_program_that_cannot_be_written_is_read_from_a_dump(tmp_path, monkeypatch):
    run = plan.build(config("bert", tmp_path), jax.devices())
    expected = compiled.train(run)

    def fails(self):
        raise jax.errors.JaxRuntimeError("async-update instruction should have 1 operands")

    monkeypatch.setattr(jax.stages.Compiled, "as_text", fails)
    found = compiled.train(run)
    assert found.costs == expected.costs and found.costs.flops > 0
    assert found.collectives == expected.collectives and found.collectives


@pytest.mark.long
def test_each_change_is_compiled(tmp_path):
    said = []
    made, chosen = not_fitting(tmp_path, over=1.5)
    said += plan.tried(made, chosen, jax.devices())
    assert len(said) == 4 and all("fits," in line for line in said)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("RESOURCE_EXHAUSTED: … HLO temporaries (512.00G) exceeds available HBM (15.75G).", 512),
        ("Ran out of memory in memory space hbm. Used 17.25G of 15.75G hbm.", 17.25),
    ],
)
def test_what_a_program_that_does_not_fit_would_need(message, size):
    assert compiled.out_of_memory(message) == size * 2**30


def test_another_error_is_no_lack_of_memory():
    assert compiled.out_of_memory("INTERNAL: a bug") is None


@pytest.mark.parametrize(
    ("name", "slices", "message"),
    [
        ("v5x:4x4", 1, "'v5x' is not known; did you mean 'v5"),
        ("v5e:16", 1, "'16' is not a shape"),
        ("v5e", 1, "'' is not a shape; examples: v5e:4x4"),
        ("cpu:0", 1, "'0' is not a shape"),
        ("cpu:4x4", 1, "'4x4' is not a shape"),
        ("cpu:8", 2, "cpu:8 has no slices"),
        ("cpu:5", 1, "jax already has 8 devices"),
        ("h100:16", 1, "at most 8 GPUs; 16 of them are h100:8x2"),
        ("h100:8x2x2", 1, "'8x2x2' is not a shape"),
        ("h100:8", 2, "has no slices; 2 machines are h100:8x2"),
        ("h10:8", 1, "'h10' is not known; did you mean 'h100'"),
    ],
)
def test_no_such_topology(name, slices, message):
    assert len(jax.devices()) == 8
    with pytest.raises(UserError, match=message):
        topology.devices(name, slices)


@pytest.mark.parametrize(
    ("name", "closed"),
    [
        ("v5p:4x4x4", (True, True, True)),
        ("v4:4x8x8", (True, True, True)),
        ("v5p:2x4x4", (False, False, False)),
        ("v5e:4x4", (False, False, False)),
        ("v6e:8x16", (False, True, False)),
        ("v5e:16x16", (True, True, False)),
    ],
)
def test_the_sides_of_a_slice_that_are_rings(name, closed):
    assert topology.rings(name) == closed


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu():
    with pytest.raises(UserError, match="libtpu, which is not installed"):
        topology.devices("v5e:4x4")


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is not None, reason="the plugin is installed"
)
def test_without_the_compiler_for_gpus():
    with pytest.raises(UserError, match="CUDA plugin, which is not installed: run `make gpu"):
        topology.devices("h100:8")


def test_a_step_above_the_memory_of_the_chip_does_not_fit(tmp_path, monkeypatch):
    small = dataclasses.replace(CHIPS["h100"], memory=1024.0)
    monkeypatch.setitem(CHIPS, "small", small)
    made = plan.make(config("bert", tmp_path), jax.devices(), "small")
    assert not made.fits and [step.name for step in made.steps] == ["train"]


def test_what_leaves_a_machine_with_gpus():
    devices = [SimpleNamespace(platform="gpu", process_index=i // 4) for i in range(8)]
    mesh = SimpleNamespace(
        axis_names=("data", "tensor"), devices=np.array(devices, object).reshape(4, 2)
    )
    chip, made = CHIPS["h100"], SimpleNamespace(run=SimpleNamespace(mesh=mesh))
    assert chip.network < chip.link
    for axes, leaves in ((("data",), True), (("tensor",), False), (("data", "tensor"), True)):
        assert plan.leaves_machine(made, Collective("all-reduce", axes, 1, 1)) == leaves


@pytest.mark.parametrize(("flag", "value"), [("slices", "0"), ("price", "-1"), ("price", "cheap")])
def test_flags_that_are_not_numbers(flag, value, capsys):
    arguments = ["--config=none.py", "--topology=cpu:8", f"--{flag}={value}"]
    assert cli.main(["plan", *arguments]) == 2
    assert f"--{flag}={value} must be a " in capsys.readouterr().err

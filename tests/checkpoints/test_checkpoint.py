"""Checkpoints: round trips, other meshes, donation, parts of the params, mismatches."""

import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.checkpoints import arrays as checkpoint_arrays
from research.checkpoints import checkpoint
from research.checkpoints.checkpoint import Checkpoints, write_checkpoint
from research.checkpoints.reading import restore_params
from research.errors import UserError
from research.models.params import by_path
from research.sharding.mesh import MeshConfig, make_mesh
from research.sharding.rules import like_params, shardings
from tests.checkpoints.checkpoint_samples import (
    AXES,
    CONFIG,
    META,
    OPTIMIZER,
    TOKENIZER,
    assert_same,
    make_params,
    make_state,
    save,
    target_of,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    save(directory, 4, 8)
    return directory


@pytest.fixture
def two_steps(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def test_round_trip(tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO, logger="absl")
    state = make_state(1)
    texts = {"meta": META, "tokenizer_json": TOKENIZER, "config": CONFIG}
    with Checkpoints(str(tmp_path), keep=2) as checkpoints:
        assert checkpoints.latest() is None
        for step in (1, 2, 3):
            assert checkpoints.save(step, **state, **texts)
        assert not checkpoints.save(3, **state, **texts)
        checkpoints.wait()
        assert checkpoints.latest() == 3
        assert sorted(os.listdir(tmp_path)) == ["2", "3"]
        info, found = checkpoints.restore(None, target_of(state))
        earlier, only = checkpoints.restore(2, {"params": target_of(state["params"])})
    assert_same(found, state)
    assert (info.step, info.meta, info.tokenizer_json) == (3, META, TOKENIZER)
    assert info.config == CONFIG
    assert (earlier.step, list(only)) == (2, ["params"])
    assert capfd.readouterr() == ("", "")
    assert [r for r in caplog.records if r.name == "absl"] == []  # Orbax says nothing


def test_donated_buffers_are_safe(tmp_path):
    @jax.jit
    def fresh():
        return {"w": jnp.zeros((64, 128, 128)), "v": jnp.zeros((512, 512))}

    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree = fresh()
    with Checkpoints(str(tmp_path), keep=10) as checkpoints:
        for number in range(4):
            checkpoints.save(number, tree, None, {}, "{}", {})
            for _ in range(3):
                tree = step(tree)
            jax.block_until_ready(tree)
        checkpoints.wait()
        for number in range(4):
            _, found = checkpoints.restore(number, {"params": target_of(tree)})
            assert all(np.all(np.asarray(x) == 3 * number) for x in found["params"].values())


def test_saved_on_one_mesh_restored_on_others(tmp_path):
    def placed(config, devices=None):
        mesh = make_mesh(config, devices)
        shapes = jax.eval_shape(make_params)
        params = shardings(AXES, shapes, mesh)
        opt_state = like_params(jax.eval_shape(OPTIMIZER.init, shapes), params, shapes, mesh)
        return {"params": params, "opt_state": opt_state}

    state = make_state(5)
    with Checkpoints(str(tmp_path)) as checkpoints:
        fsdp = jax.device_put(state, placed(MeshConfig(data=1, fsdp=8)))
        assert not fsdp["params"]["backbone"]["embed"].is_fully_replicated
        checkpoints.save(5, **fsdp, meta=META, tokenizer_json=TOKENIZER, config=CONFIG)
    for where in (
        placed(MeshConfig(), jax.devices()[:1]),
        placed(MeshConfig(data=1, fsdp=2, tensor=4)),
    ):
        target = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, where
        )
        with Checkpoints(str(tmp_path)) as checkpoints:
            _, found = checkpoints.restore(None, target)
        assert_same(found, state)
        for leaf, sharding in zip(
            jax.tree.leaves(found["params"]), jax.tree.leaves(where["params"]), strict=True
        ):
            assert leaf.sharding == sharding


def test_optimizer_without_state(tmp_path):
    params = make_params()
    state = optax.sgd(0.1).init(params)
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(1, params, state, META, TOKENIZER, CONFIG)
        checkpoints.wait()
        _, found = checkpoints.restore(None, {"params": target_of(params), "opt_state": state})
    assert found["opt_state"] == state


def test_a_used_folder_is_not_written_over(two_steps):
    with Checkpoints(str(two_steps)) as checkpoints:
        for step in (8, 5):
            with pytest.raises(UserError, match=f"cannot save step {step}.*holds step 8"):
                checkpoints.save(step, **make_state(), meta={}, tokenizer_json="{}", config={})


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file/checkpoints"):
        Checkpoints(str(tmp_path / "file" / "checkpoints"))


def test_resume_of_another_model_is_refused(two_steps):
    target = target_of(make_state())
    target["params"]["backbone"]["embed"] = jax.ShapeDtypeStruct((512, 48), jnp.float32)
    target["params"]["backbone"]["layers"]["bias"] = jax.ShapeDtypeStruct((3, 64), jnp.float32)
    del target["params"]["heads"]["mlm"]
    with Checkpoints(str(two_steps)) as checkpoints:
        with pytest.raises(UserError) as error:
            checkpoints.restore(None, target)
    text = str(error.value)
    assert "backbone/embed: expected float32[512, 48], found float32[512, 32]" in text
    assert "backbone/layers/bias: expected float32[3, 64], found bfloat16[3, 64]" in text
    assert "heads/mlm/bias: expected nothing, found float32[512]" in text


def test_part_of_the_params(two_steps):
    params = make_params(8)
    mesh = make_mesh(MeshConfig(data=1, fsdp=8))
    where = shardings(AXES, params, mesh)
    wanted = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=s),
        {"backbone": params["backbone"], "heads": {"label": params["heads"]["label"]}},
        {"backbone": where["backbone"], "heads": {"label": where["heads"]["label"]}},
    )
    _, found = restore_params(str(two_steps), wanted)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    bias = found["backbone"]["layers"]["bias"]
    assert bias.dtype == jnp.float32  # stored as bfloat16
    np.testing.assert_array_equal(bias, params["backbone"]["layers"]["bias"].astype(jnp.float32))
    assert bias.sharding == where["backbone"]["layers"]["bias"]
    np.testing.assert_array_equal(found["backbone"]["embed"], params["backbone"]["embed"])
    assert found["backbone"]["embed"].sharding == where["backbone"]["embed"]


def test_rest_is_not_read(two_steps, monkeypatch):
    asked = []
    original = checkpoint.ocp.PyTreeCheckpointHandler.restore

    def spy(self, directory, args):
        asked.append((directory.name, set(by_path(args.item))))
        return original(self, directory, args=args)

    monkeypatch.setattr(checkpoint.ocp.PyTreeCheckpointHandler, "restore", spy)
    label = make_params(8)["heads"]["label"]
    _, found = restore_params(str(two_steps), {"heads": {"label": target_of(label)}})
    assert_same(found, {"heads": {"label": label}})
    assert asked == [("params", {"heads/label/kernel"})]


def test_params_that_do_not_fit_are_named_before_anything_is_read(two_steps, monkeypatch):
    monkeypatch.setattr(checkpoint_arrays, "load", lambda *_: pytest.fail("arrays were read"))
    shape = jax.ShapeDtypeStruct
    wanted = {
        "backbone": {
            "embed": shape((600, 32), jnp.float32),
            "layers": {"kernel": shape((3, 32, 64), jnp.int32), "gate": shape((3,), jnp.float32)},
        }
    }
    with pytest.raises(UserError) as error:
        restore_params(str(two_steps), wanted)
    text = str(error.value)
    assert "with backbone, heads/label, heads/mlm" in text
    for line in (
        "backbone/embed: expected float32[600, 32], found float32[512, 32]",
        "backbone/layers/kernel: expected int32[3, 32, 64], found float32[3, 32, 64]",
        "backbone/layers/gate: expected float32[3], found nothing",
        "backbone/layers/bias: expected nothing, found bfloat16[3, 64]",
    ):
        assert line in text
    many = {"heads": {"new": {f"w{i}": shape((2,), jnp.float32) for i in range(40)}}}
    with pytest.raises(UserError) as error:
        restore_params(str(two_steps), many)
    assert len(str(error.value).splitlines()) == 12
    assert "and 30 more" in str(error.value)


def test_shipped_checkpoint(tmp_path):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) * 0.02, jnp.bfloat16)

    params = {
        "backbone": {
            "embed": draw(8192, 192),
            "layers": {"up": draw(4, 192, 768), "down": draw(4, 768, 192), "bias": draw(4, 768)},
        }
    }
    write_checkpoint(str(tmp_path), 1000, params, CONFIG, TOKENIZER, META)
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    raw = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert len(files) < 24
    assert sum(f.stat().st_size for f in files) < 0.8 * raw + 20_000
    for file in files:
        assert str(tmp_path).encode() not in file.read_bytes()  # nor where it was made

    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), params)
    _, found = restore_params(str(tmp_path), wanted)
    assert_same(found, jax.tree.map(lambda x: x.astype(jnp.float32), params))
    with Checkpoints(str(tmp_path)) as checkpoints:
        count = {"count": jax.ShapeDtypeStruct((), jnp.int32)}
        with pytest.raises(UserError, match="holds no opt_state.*not resume"):
            checkpoints.restore(None, {"params": target_of(params), "opt_state": count})

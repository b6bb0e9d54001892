"""Checkpoints and checksums: other meshes, damage of every kind, kills, partial restores."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from research.errors import UserError
from research.sharding.mesh import MeshConfig, make_mesh
from research.sharding.rules import like_params, shardings
from research.training import checkpoint
from research.training.checkpoint import (
    Checkpoints,
    read_info,
    restore_params,
    write_checkpoint,
)
from research.training.integrity import checksums, compare, named

TOKENIZER = json.dumps({"model": {"vocab": {"[PAD]": 0, "Ġcafé": 1}}}, ensure_ascii=False)
CONFIG = {"model": {"width": 32}, "rate": 1e-3}
META = {"position": [3, 17], "best": 0.1 + 0.2}
AXES = {
    "backbone": {
        "embed": ("vocab", "embed"),
        "layers": {"kernel": ("layers", "embed", "mlp"), "bias": ("layers", "mlp")},
    },
    "heads": {"label": {"kernel": ("embed", "classes")}, "mlm": {"bias": ("vocab",)}},
}
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def make_params(seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape, dtype=jnp.float32):
        return jnp.asarray(rng.normal(size=shape), dtype)

    return {
        "backbone": {
            "embed": draw(512, 32),
            "layers": {"kernel": draw(3, 32, 64), "bias": draw(3, 64, dtype=jnp.bfloat16)},
        },
        "heads": {"label": {"kernel": draw(32, 5)}, "mlm": {"bias": draw(512)}},
    }


def make_state(seed=0):
    params = make_params(seed)
    state = OPTIMIZER.init(params)
    return {
        "params": params,
        "opt_state": jax.tree.map(lambda x: x + jnp.asarray(3 + seed, x.dtype), state),
    }


def target_of(tree, sharding=None):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding or x.sharding), tree
    )


def save(directory, *steps):
    with Checkpoints(str(directory), keep=10) as checkpoints:
        for step in steps:
            checkpoints.save(
                step, **make_state(step), meta=META, tokenizer_json=TOKENIZER, config=CONFIG
            )


def restore(directory, step=None, read_only=True):
    with Checkpoints(str(directory), read_only=read_only) as checkpoints:
        return checkpoints.restore(step, target_of(make_state()))


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        assert a.dtype == b.dtype, path
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), path


def data_files(step):
    files = [f for f in (step / "params").rglob("d/*") if f.is_file()]
    return sorted(files, key=lambda f: f.stat().st_size)


@pytest.fixture
def two_steps(tmp_path):
    save(tmp_path / "checkpoints", 4, 8)
    return tmp_path / "checkpoints"


# Checksums


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "uint16", "int32"])
def test_checksum_is_the_same_on_any_mesh(dtype):
    values = np.random.default_rng(0).normal(size=(8, 24, 16)) * 50
    array = jnp.asarray(values, dtype)
    alone = checksums({"x": array})
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    for spec in [(), ("data",), (None, "fsdp", "tensor"), (("data", "fsdp"), None, "tensor")]:
        placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
        assert checksums({"x": placed}) == alone
    assert checksums({"x": np.asarray(array)}) == alone


def test_checksum_of_scalars_and_empty_arrays():
    nested = {"d": jnp.int32(7), "e": jnp.array(True)}
    tree = {"a": jnp.float32(2), "b": jnp.zeros((0, 4)), "c": nested}
    found = checksums(tree)
    assert set(found) == {"a", "b", "c/d", "c/e"}
    assert found["b"] == 0 and all(0 <= value < 2**32 for value in found.values())
    assert checksums({"a": jnp.float32(-2)})["a"] != found["a"]


def test_checksum_sees_one_bit_and_two_values_exchanged():
    rng = np.random.default_rng(1)
    array = rng.normal(size=(40, 50)).astype(np.float32)
    array[0, 0], array[9, 9] = 1.5, -1.5  # differ in the highest bit alone
    base = checksums([array])
    bits = array.view(np.uint32).reshape(-1)
    for place, bit in zip(rng.integers(bits.size, size=64), list(range(32)) * 2, strict=True):
        changed = bits.copy()
        changed[place] ^= np.uint32(1) << np.uint32(bit)
        assert checksums([changed.view(np.float32).reshape(array.shape)]) != base
    for first, second in [(0, 9 * 50 + 9), (0, 1), (3, 1999), (128, 640)]:
        changed = array.reshape(-1).copy()
        changed[[first, second]] = changed[[second, first]]
        assert checksums([changed.reshape(array.shape)]) != base


def test_checksum_tells_negative_zero_and_nan_payloads_apart():
    bits = [0x00000000, 0x80000000, 0x7FC00000, 0x7FC00001]
    sums = {checksums([np.array([b], np.uint32).view(np.float32)])["0"] for b in bits}
    assert len(sums) == 4


def test_checksum_refuses_what_jax_would_narrow():
    with pytest.raises(TypeError, match="32 bits"):
        checksums({"a": np.ones(3)})
    with pytest.raises(TypeError, match="32 bits"):
        checksums({"a": 3})


def test_compare_lists_paths():
    assert compare({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == ["b", "c", "d"]
    assert compare({"a": 1}, {"a": 1}) == []


def test_named_refuses_names_with_a_slash():
    with pytest.raises(ValueError, match="slash"):
        named({"a/b": 1, "a": {"b": 2}})


# Saving and restoring


def test_round_trip(tmp_path, capfd):
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
        found = checkpoints.restore(None, target_of(state))
        only = checkpoints.restore(2, {"params": target_of(state["params"])})
    assert_same(found.params, state["params"])
    assert_same(found.opt_state, state["opt_state"])
    assert (found.step, found.meta, found.tokenizer_json) == (3, META, TOKENIZER)
    assert found.config == CONFIG
    assert (only.step, only.opt_state) == (2, None)
    assert capfd.readouterr() == ("", "")  # Orbax says nothing


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
            found = checkpoints.restore(number, {"params": target_of(tree)}).params
            assert all(np.all(np.asarray(x) == 3 * number) for x in found.values())


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
        with Checkpoints(str(tmp_path), read_only=True) as checkpoints:
            found = checkpoints.restore(None, target)
        assert_same(found.params, state["params"])
        assert_same(found.opt_state, state["opt_state"])
        for leaf, sharding in zip(
            jax.tree.leaves(found.params), jax.tree.leaves(where["params"]), strict=True
        ):
            assert leaf.sharding == sharding


def test_optimizer_without_state(tmp_path):
    params = make_params()
    state = optax.sgd(0.1).init(params)
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(1, params, state, META, TOKENIZER, CONFIG)
        checkpoints.wait()
        found = checkpoints.restore(None, {"params": target_of(params), "opt_state": state})
    assert found.opt_state == state


def test_a_used_folder_is_not_written_over(two_steps):
    with Checkpoints(str(two_steps)) as checkpoints:
        for step in (8, 5):
            with pytest.raises(UserError, match=f"cannot save step {step}.*holds step 8"):
                checkpoints.save(step, **make_state(), meta={}, tokenizer_json="{}", config={})
    with Checkpoints(str(two_steps), read_only=True) as checkpoints:
        with pytest.raises(ValueError, match="read-only"):
            checkpoints.save(9, **make_state(), meta={}, tokenizer_json="{}", config={})


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file/checkpoints"):
        Checkpoints(str(tmp_path / "file" / "checkpoints"))


def test_resume_of_another_model_is_refused(two_steps):
    target = target_of(make_state())
    target["params"]["backbone"]["embed"] = jax.ShapeDtypeStruct((512, 48), jnp.float32)
    target["params"]["backbone"]["layers"]["bias"] = jax.ShapeDtypeStruct((3, 64), jnp.float32)
    del target["params"]["heads"]["mlm"]
    with Checkpoints(str(two_steps), read_only=True) as checkpoints:
        with pytest.raises(UserError) as error:
            checkpoints.restore(None, target)
    text = str(error.value)
    assert "backbone/embed: expected float32[512, 48], found float32[512, 32]" in text
    assert "backbone/layers/bias: expected float32[3, 64], found bfloat16[3, 64]" in text
    assert "heads/mlm/bias: expected nothing, found float32[512]" in text


# Damage


def flip(step):
    file = data_files(step)[-1]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(step):
    file = data_files(step)[-1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove(name):
    def damage(step):
        path = step / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def change_meta(step):
    file = step / "about" / "meta.json"
    file.write_text(file.read_text().replace("17", "18"))


def cut_tokenizer(step):
    file = step / "about" / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:-4])


DAMAGES = {
    "flipped byte": (flip, "params"),
    "truncated file": (cut, "params"),
    "no params": (remove("params"), "params"),
    "no optimizer": (remove("opt_state"), "opt_state"),
    "no texts": (remove("about"), "config.json is missing"),
    "no manifest": (remove("params/manifest.ocdbt"), "params"),
    "empty folder": (empty, "config.json is missing"),
    "changed meta": (change_meta, "meta.json does not match"),
    "cut tokenizer": (cut_tokenizer, "tokenizer.json does not match"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_step_is_passed_over(two_steps, damage, capfd):
    do, reason = DAMAGES[damage]
    do(two_steps / "8")
    with Checkpoints(str(two_steps), read_only=True) as checkpoints:
        assert checkpoints.latest() == 8
    found = restore(two_steps)
    assert found.step == 4
    assert_same(found.params, make_state(4)["params"])
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert f"{two_steps / '8'} is damaged" in err and reason in err
    with pytest.raises(UserError, match="(?s)no good checkpoint.*step 8: "):
        restore(two_steps, step=8)
    assert sorted(os.listdir(two_steps)) == ["4", "8"]


def test_no_good_step_lists_every_reason(two_steps):
    change_meta(two_steps / "4")
    empty(two_steps / "8")
    with pytest.raises(UserError) as error:
        restore(two_steps)
    lines = str(error.value).splitlines()
    assert lines[1].startswith("  step 8: ") and "config.json is missing" in lines[1]
    assert lines[2].startswith("  step 4: ") and "meta.json does not match" in lines[2]


def test_run_goes_on_after_damage(two_steps):
    flip(two_steps / "8")
    with Checkpoints(str(two_steps)) as checkpoints:
        assert checkpoints.restore(None, target_of(make_state())).step == 4
        state = make_state(8)
        checkpoints.save(8, **state, meta=META, tokenizer_json=TOKENIZER, config=CONFIG)
        checkpoints.wait()
        assert sorted(os.listdir(two_steps)) == ["4", "8", "8.damaged"]
    assert_same(restore(two_steps).params, state["params"])


def test_lack_of_memory_is_not_taken_for_damage(two_steps, monkeypatch):
    def restore_nothing(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(checkpoint.ocp.PyTreeCheckpointHandler, "restore", restore_nothing)
    with pytest.raises(ValueError, match="Out of memory"):
        restore(two_steps)


KILLED = """
import os, signal, sys
import jax.numpy as jnp
from research.training import checkpoint_folder
from research.training.checkpoint import Checkpoints

with Checkpoints(sys.argv[1]) as checkpoints:
    save = lambda step: checkpoints.save(step, {"w": jnp.full((64, 64), float(step))}, None, {}, "{}", {})
    save(1)
    checkpoints.wait()

    async def killed(self, directory, texts):
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoint_folder.TextHandler._write = killed
    save(2)
    checkpoints.wait()
"""


def test_killed_while_saving(tmp_path):
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=os.getcwd())
    assert run.returncode == -signal.SIGKILL
    assert any(name.startswith("2.") for name in os.listdir(tmp_path))  # it was on its way
    target = {"w": jax.ShapeDtypeStruct((64, 64), jnp.float32)}
    with Checkpoints(str(tmp_path)) as checkpoints:
        found = checkpoints.restore(None, {"params": target})
        assert found.step == 1 and np.all(np.asarray(found.params["w"]) == 1)
        checkpoints.save(2, found.params, None, {}, "{}", {})
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


# Finding and reading


def test_info_without_reading_arrays(two_steps):
    for file in data_files(two_steps / "8"):
        file.unlink()
    for path in (two_steps, two_steps.parent, two_steps / "8"):
        info = read_info(str(path))
        assert (info.step, info.config, info.meta) == (8, CONFIG, META)
        assert info.tokenizer_json == TOKENIZER
    assert jax.tree.structure(info.shapes) == jax.tree.structure(make_params())
    bias = info.shapes["backbone"]["layers"]["bias"]
    assert (bias.shape, bias.dtype) == ((3, 64), jnp.bfloat16)
    assert read_info(str(two_steps), step=4).step == 4
    assert read_info(str(two_steps / "4")).step == 4


def test_no_checkpoint(two_steps):
    run = two_steps.parent / "runs" / "mine"
    shutil.move(two_steps, run / "checkpoints")
    two_steps = run / "checkpoints"
    cases = [
        ((run / "checkpoint",), ["no such folder", "did you mean 'checkpoints'"]),
        ((run.parent,), ["did you mean one of its folders? mine"]),
        ((two_steps / "8" / "about",), ["it holds", "config.json"]),
        ((two_steps / "8" / "about" / "meta.json",), ["is a file"]),
        ((two_steps, 5), ["no step 5", "valid: 4, 8"]),
        ((two_steps / "8", 4), ["step 4 is asked for", "is step 8"]),
    ]
    for arguments, parts in cases:
        path, *step = arguments
        with pytest.raises(UserError) as error:
            read_info(str(path), *step)
        for part in parts:
            assert part in str(error.value)
    (run / "empty" / "checkpoints").mkdir(parents=True)
    for name in ("empty", "empty/checkpoints"):
        with pytest.raises(UserError, match="no checkpoint in .*it is empty"):
            read_info(str(run / name))
    with pytest.raises(UserError, match="no checkpoint in .*empty"):
        restore(run / "empty")


def test_part_of_the_params(two_steps):
    params = make_params(8)
    mesh = make_mesh(MeshConfig(data=1, fsdp=8))
    where = shardings(AXES, params, mesh)
    wanted = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=s),
        {"backbone": params["backbone"], "heads": {"label": params["heads"]["label"]}},
        {"backbone": where["backbone"], "heads": {"label": where["heads"]["label"]}},
    )
    found = restore_params(str(two_steps), wanted)
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
        asked.append((directory.name, set(named(args.item))))
        return original(self, directory, args=args)

    monkeypatch.setattr(checkpoint.ocp.PyTreeCheckpointHandler, "restore", spy)
    label = make_params(8)["heads"]["label"]
    found = restore_params(str(two_steps), {"heads": {"label": target_of(label)}})
    assert_same(found, {"heads": {"label": label}})
    assert asked == [("params", {"heads/label/kernel"})]


def test_params_that_do_not_fit_are_named_before_anything_is_read(two_steps, monkeypatch):
    monkeypatch.setattr(checkpoint, "_load", lambda *_: pytest.fail("arrays were read"))
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


def test_damaged_params_are_noticed(two_steps, capfd):
    wanted = {"backbone": target_of(make_params()["backbone"])}
    flip(two_steps / "8")
    with pytest.raises(UserError, match="step 8: params"):
        restore_params(str(two_steps), wanted, step=8)
    assert_same(restore_params(str(two_steps), wanted)["backbone"], make_params(4)["backbone"])
    assert "8 is damaged" in capfd.readouterr().err


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
    found = restore_params(str(tmp_path), wanted)
    assert_same(found, jax.tree.map(lambda x: x.astype(jnp.float32), params))
    with Checkpoints(str(tmp_path), read_only=True) as checkpoints:
        count = {"count": jax.ShapeDtypeStruct((), jnp.int32)}
        with pytest.raises(UserError, match="holds no opt_state.*not resume"):
            checkpoints.restore(None, {"params": target_of(params), "opt_state": count})

"""Which step is good: damage of every kind, kills, several processes, paths to find it by."""

import asyncio
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.checkpoints import checkpoint
from research.checkpoints.checkpoint import Checkpoints
from research.checkpoints.folder import DamagedError, read_by_all
from research.checkpoints.reading import read_info, restore_params
from research.errors import UserError
from tests.checkpoints.checkpoint_samples import (
    CONFIG,
    META,
    TOKENIZER,
    assert_same,
    make_params,
    make_state,
    restore,
    save,
    target_of,
)


def data_files(step):
    files = [f for f in (step / "params").rglob("d/*") if f.is_file()]
    return sorted(files, key=lambda f: f.stat().st_size)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    save(directory, 4, 8)
    return directory


@pytest.fixture
def two_steps(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


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
    "no texts": (remove("about"), "SHA256SUMS is missing"),
    "no manifest": (remove("params/manifest.ocdbt"), "params"),
    "empty folder": (empty, "SHA256SUMS is missing"),
    "changed meta": (change_meta, "meta.json does not match"),
    "cut tokenizer": (cut_tokenizer, "tokenizer.json does not match"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_step_is_passed_over(two_steps, damage, capfd):
    do, reason = DAMAGES[damage]
    do(two_steps / "8")
    read_info(str(two_steps))  # as a run does first: what it says is not said again
    info, found = restore(two_steps)
    assert info.step == 4
    assert_same(found, make_state(4))
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert f"{two_steps / '8'} is damaged" in err and reason in err
    with pytest.raises(UserError, match="(?s)no good checkpoint.*step 8: "):
        restore(two_steps, step=8)
    with pytest.raises(UserError, match="no step 5.*valid: 4, 8"):
        restore(two_steps, step=5)
    assert sorted(os.listdir(two_steps)) == ["4", "8"]


def test_no_good_step_lists_every_reason(two_steps):
    change_meta(two_steps / "4")
    empty(two_steps / "8")
    with pytest.raises(UserError) as error:
        restore(two_steps)
    lines = str(error.value).splitlines()
    assert lines[1].startswith("  step 8: ") and "SHA256SUMS is missing" in lines[1]
    assert lines[2].startswith("  step 4: ") and "meta.json does not match" in lines[2]


def test_run_goes_on_after_damage(two_steps):
    flip(two_steps / "8")
    with Checkpoints(str(two_steps)) as checkpoints:
        assert checkpoints.restore(None, target_of(make_state()))[0].step == 4
        state = make_state(8)
        checkpoints.save(8, **state, meta=META, tokenizer_json=TOKENIZER, config=CONFIG)
        checkpoints.wait()
        assert sorted(os.listdir(two_steps)) == ["4", "8", "8.damaged"]
    assert_same(restore(two_steps)[1], state)


def test_lack_of_memory_is_not_taken_for_damage(two_steps, monkeypatch):
    def restore_nothing(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(checkpoint.ocp.PyTreeCheckpointHandler, "restore", restore_nothing)
    with pytest.raises(ValueError, match="Out of memory"):
        restore(two_steps)


def test_abandoned_reads_say_nothing(caplog):
    def read():
        loop = asyncio.new_event_loop()
        loop.create_future().set_exception(ValueError("nobody asks for this one"))
        loop.close()
        raise OSError("cut short") from ValueError("the cause")

    with pytest.raises(DamagedError, match="params: the cause"):
        read_by_all("params", read)
    gc.collect()
    assert caplog.records == []


KILLED = """
import os, signal, sys
import jax.numpy as jnp
from research.checkpoints import folder as checkpoint_folder
from research.checkpoints.checkpoint import Checkpoints

with Checkpoints(sys.argv[1]) as checkpoints:
    def save(step):
        params = {"w": jnp.full((64, 64), float(step))}
        checkpoints.save(step, params, None, {}, "{}", {})

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
        info, found = checkpoints.restore(None, {"params": target})
        assert info.step == 1 and np.all(np.asarray(found["params"]["w"]) == 1)
        checkpoints.save(3, found["params"], None, {}, "{}", {})
    assert sorted(os.listdir(tmp_path)) == ["1", "3"]  # nothing is left of step 2


PROCESS = """
import sys, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, int(sys.argv[1]))
import jax.numpy as jnp, numpy as np, pathlib
from jax.experimental.multihost_utils import sync_global_devices
from jax.sharding import NamedSharding, PartitionSpec
from research.sharding.mesh import MeshConfig, make_mesh
from research.checkpoints.checkpoint import Checkpoints
from research.checkpoints.reading import read_info

assert jax.process_count() == 2 and jax.device_count() == 4
split = NamedSharding(make_mesh(MeshConfig(data=1, fsdp=4)), PartitionSpec("fsdp"))
params = jax.jit(
    lambda: {"w": jax.random.normal(jax.random.key(0), (64, 512))}, out_shardings={"w": split}
)()
target = {"params": {"w": jax.ShapeDtypeStruct((64, 512), jnp.float32, sharding=split)}}
with Checkpoints(sys.argv[3]) as checkpoints:
    checkpoints.save(1, params, None, {}, "{}", {})
    checkpoints.save(2, params, None, {}, "{}", {})
if jax.process_index() == 0:  # what the other process reads is cut, not what this one does
    step = pathlib.Path(sys.argv[3], "2", "params", "ocdbt.process_1", "d")
    for file in step.iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
sync_global_devices("cut")
with Checkpoints(sys.argv[3]) as checkpoints:
    info, found = checkpoints.restore(None, target)
    assert info.step == 1
    for a, b in zip(found["params"]["w"].addressable_shards, params["w"].addressable_shards):
        np.testing.assert_array_equal(np.asarray(a.data), np.asarray(b.data))
    checkpoints.save(2, params, None, {}, "{}", {})
assert read_info(sys.argv[3]).step == 2
print("passed")
"""


@pytest.mark.long
def test_two_processes_agree(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(index), port, str(tmp_path)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for index, run in enumerate(runs):
        out, err = run.communicate(timeout=120)
        assert "passed" in out, err
        assert ("2 is damaged" in err) == (index == 0)
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "2.damaged"]


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
    assert read_info(str(two_steps / "4")).step == 4


def test_no_checkpoint(two_steps):
    run = two_steps.parent / "runs" / "mine"
    shutil.move(two_steps, run / "checkpoints")
    two_steps = run / "checkpoints"
    cases = [
        (run / "checkpoint", ["no such folder", "did you mean 'checkpoints'"]),
        (run.parent, ["did you mean one of its folders? mine"]),
        (two_steps / "8" / "about", ["it holds", "config.json"]),
        (two_steps / "8" / "about" / "meta.json", ["is a file"]),
    ]
    for path, parts in cases:
        with pytest.raises(UserError) as error:
            read_info(str(path))
        for part in parts:
            assert part in str(error.value)
    (run / "empty" / "checkpoints").mkdir(parents=True)
    for name in ("empty", "empty/checkpoints"):
        with pytest.raises(UserError, match="no checkpoint in .*it is empty"):
            read_info(str(run / name))
    with pytest.raises(UserError, match="no checkpoint in .*empty"):
        restore(run / "empty")


def test_damaged_params_are_noticed(two_steps, capfd):
    wanted = {"backbone": target_of(make_params()["backbone"])}
    flip(two_steps / "8")
    with pytest.raises(UserError, match="step 8: params"):
        restore_params(str(two_steps / "8"), wanted)
    info, found = restore_params(str(two_steps), wanted)
    assert info.step == 4
    assert_same(found["backbone"], make_params(4)["backbone"])
    assert "8 is damaged" in capfd.readouterr().err

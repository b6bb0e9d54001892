"""The cache of compiled programs that every start of `launch.py` has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from research import compile_cache

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv(compile_cache.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.pop(compile_cache.VARIABLE, None)  # `use` sets it behind monkeypatch's back


def test_a_second_start_finds_what_the_first_one_compiled(tmp_path):
    program = (
        "from research import compile_cache; compile_cache.use(); import jax; "
        "jax.config.update('jax_log_compiles', True); "
        "print(jax.jit(lambda x: x * 3 + 1)(1.0))"
    )
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said.append("cache hit" in done.stderr.lower())
    assert said == [False, True]
    assert list((tmp_path / ".cache" / "jax").rglob("*-cache"))


@pytest.mark.parametrize("folder", ["/somewhere", ""])
def test_a_folder_of_the_user_stays(monkeypatch, tmp_path, folder):
    monkeypatch.setenv(compile_cache.VARIABLE, folder)
    compile_cache.use()
    assert os.environ[compile_cache.VARIABLE] == folder
    assert not (tmp_path / ".cache").exists()


def test_a_start_that_compiles_nothing_leaves_no_folder(tmp_path):
    compile_cache.use()
    assert os.environ[compile_cache.VARIABLE].startswith(str(tmp_path / ".cache" / "jax"))
    assert not (tmp_path / ".cache").exists()


def test_a_place_that_cannot_be_written_has_none(tmp_path):
    (tmp_path / ".cache").write_text("a file")
    compile_cache.use()
    assert compile_cache.VARIABLE not in os.environ


def test_what_was_read_last_stays_within_the_limit(tmp_path):
    for age, name in enumerate(["newest", "middle", "oldest"]):
        file = tmp_path / "cpu" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 100)
        os.utime(file, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "cpu" / "oldest", (2e9, 1e9 - 2))  # written first, read last
    compile_cache.shrink(tmp_path, 200)
    assert sorted(p.name for p in (tmp_path / "cpu").iterdir()) == ["newest", "oldest"]

"""A small project to launch, and fakes of the clouds' programs."""

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.lab.launchers import snapshot
from tests import helpers

ROOT = Path(__file__).parents[3]

# A bucket is a folder here, one for each machine, and the package is the one under test.
LAUNCH = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from research.cli import main
bucket = os.path.expanduser("~/bucket")
sys.exit(main([a.replace("gs://some-bucket", bucket) for a in sys.argv[1:]]))
"""


def git(folder, *arguments):
    known = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    done = subprocess.run(
        ["git", *known, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def wait_for(log: Path, pattern: str, seconds: float = 300) -> re.Match:
    """Waits for a match in a log that is still being written."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        match = re.search(pattern, log.read_text()) if log.exists() else None
        if match:
            return match
        time.sleep(0.1)
    pytest.fail(f"no {pattern!r} in {log.read_text() if log.exists() else log}")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with launch.py, a config and its corpus; the folder of the tests that follow."""
    root = tmp_path / "project"
    (root / "configs").mkdir(parents=True)
    values = helpers.run_values("gpt", root, steps=2)
    values["data"]["corpus"] = ["files:corpus.jsonl"]
    values["data"]["cache"] = ".cache"
    (root / "configs" / "tiny.py").write_text(
        f"from ml_collections import ConfigDict\n\n\ndef get_config(arg=''):\n"
        f"    return ConfigDict({values!r})\n"
    )
    (root / "launch.py").write_text(LAUNCH)
    (root / ".gitignore").write_text("runs/\n.cache/\ncache/\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=Start")
    monkeypatch.setattr(snapshot, "ROOT", root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function: puts a Python program of this name on PATH, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, text: str) -> Path:
        file = folder / name
        file.write_text(f"#!{sys.executable} -S\n{text}")
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
        return file

    return put


@pytest.fixture
def golden(project):
    """A function: compares with golden/NAME.txt, without what differs by machine and commit.

    With GOLDEN=write in the environment the file is written anew.
    """

    def compare(name: str, text: str) -> None:
        commit = git(project, "rev-parse", "HEAD")
        places = {commit: "COMMIT", commit[:12]: "COMMIT12", str(project): "ROOT"}
        for found, shown in (places | {sys.executable: "PYTHON"}).items():
            text = text.replace(found, shown)
        file = Path(__file__).parent / "golden" / f"{name}.txt"
        if os.environ.get("GOLDEN") == "write":
            file.write_text(text)
        assert text == file.read_text()

    return compare


@pytest.fixture
def stub(project):
    """A function: replaces launch.py, for tests that need no training."""

    def put(text: str) -> None:
        (project / "launch.py").write_text(text)
        git(project, "commit", "--quiet", "--all", "--message=Stub")

    return put

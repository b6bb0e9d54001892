"""The record of a run's start: its command and its code."""

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from research import shipped
from research.monitoring import starts


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one committed file of code, in place of the project's own."""

    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=e@x")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "research/models").mkdir(parents=True)
    (tmp_path / "research/__init__.py").write_text("A = 1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    return tmp_path


def test_the_diff_has_changes_and_new_files_of_code(checkout):
    assert starts.describe("", "")["diff"] == ""
    (checkout / "research/__init__.py").write_text("A = 2\n")
    (checkout / "research/models/mine.py").write_text("B = 3\n")
    (checkout / "notes.txt").write_text("of no matter\n")
    found = starts.describe("", "")
    assert "-A = 1\n+A = 2\n" in found["diff"] and "+B = 3\n" in found["diff"]
    assert "of no matter" not in found["diff"]
    assert found["untracked"] == ["notes.txt", "research/models/mine.py"]
    # It makes the same code of the commit again.
    subprocess.run(["git", "stash", "--quiet", "--include-untracked"], cwd=checkout, check=True)
    subprocess.run(["git", "apply"], cwd=checkout, input=found["diff"], text=True, check=True)
    assert (checkout / "research/models/mine.py").read_text() == "B = 3\n"
    assert (checkout / "research/__init__.py").read_text() == "A = 2\n"


def test_outside_of_a_checkout_there_is_no_diff(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = starts.describe("", "")
    assert found["commit"] is None and found["diff"] is None


@pytest.mark.parametrize(
    ("spec", "command"),
    [(None, ["launch.py"]), (SimpleNamespace(name="research.tool"), ["-m", "research.tool"])],
)
def test_the_command_is_what_was_typed(monkeypatch, spec, command):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", ["/x/launch.py", "train", "--config=a.py"])
    found = starts.describe("", "")["command"]
    assert found == ["python", *command, "train", "--config=a.py"]


def test_a_process_that_a_command_starts_notes_that_command(monkeypatch):
    monkeypatch.setenv(starts.TYPED, "python launch.py experiment '--only=a b'")
    assert starts.command() == ["python", "launch.py", "experiment", "--only=a b"]


def test_secrets_are_not_kept():
    kept = [
        *("--config=a.py", "--config.train.tokens=100", "--config.tokenizer.add_tokens=['<a>']"),
        *("--max_tokens", "64", "--config.data.key_words=x", "--workdir=gs://bucket/a@b"),
    ]
    assert starts.masked(kept) == kept
    secret = {
        "--api_key=abc": ["--api_key=***"],
        "--on.wandb_key=abc": ["--on.wandb_key=***"],
        "--hf-token abc": ["--hf-token", "***"],
        "--on.password=a=b": ["--on.password=***"],
        "--AWS_SECRET=abc": ["--AWS_SECRET=***"],
        "--config.data.corpus=https://me:abc@host/x": ["--config.data.corpus=https://***@host/x"],
    }
    for line, masked in secret.items():
        assert starts.masked(line.split()) == masked


def test_the_model_of_the_processor_is_noted():
    found = starts.describe("", "")["machine"]["cpu"]
    info = Path("/proc/cpuinfo")
    assert found == platform.processor() or found in info.read_text()
    assert found or "model name" not in info.read_text()

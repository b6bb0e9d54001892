"""gcloud's own parser on the commands that we call and those that the guide shows; no cloud."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "cloud_tpu.md"
GOLDEN = Path(__file__).parent / "golden"


def commands() -> list[str]:
    guide = GUIDE.read_text().replace("\\\n", " ").splitlines()
    golden = [line for file in GOLDEN.glob("tpu_vm*.txt") for line in file.read_text().splitlines()]
    return [line for line in (*guide, *golden) if line.startswith("gcloud ")]


def test_there_are_commands():
    assert len(commands()) > 20


@pytest.mark.long
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud_knows_every_flag(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    for line in dict.fromkeys(commands()):
        # The parser takes no shell script in a flag.
        words = ["--command=x" if w.startswith("--command=") else w for w in shlex.split(line)]
        line = shlex.join(words).replace("BUCKET", "bucket").replace("PROJECT", "some-project")
        lint = ["gcloud", "meta", "lint-gcloud-commands", f"--command-string={line}"]
        done = subprocess.run(lint, capture_output=True, text=True, check=True)
        (found,) = json.loads(done.stdout)
        assert found["success"], f"{line}\n{found.get('error_message')}"

"""Training, going on, experiments and evaluation with all files on a bucket, a stand-in of one."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("gcsfs")

from tests import helpers

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long


@pytest.fixture
def address():
    """Where the stand-in listens; it has one bucket, some-bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "tests" / "fake_bucket.py"), str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # of clients that were killed
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b/some-bucket")
            break
        except OSError:
            time.sleep(0.1)
    yield url
    server.terminate()
    server.wait()


@pytest.fixture
def launch(address, tmp_path):
    """A function: `launch.py` with these arguments, as a process."""
    environment = helpers.child_environment() | {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "CLOUDSDK_CONFIG": str(tmp_path),  # nobody's credentials are looked for
        "NO_GCE_CHECK": "true",
        "GCE_METADATA_ROOT": "127.0.0.1:1",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }

    def start(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "launch.py", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def done(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def put(address: str, name: str, content: bytes) -> None:
    url = f"{address}/upload/storage/v1/b/some-bucket/o?uploadType=media&name={name}"
    urllib.request.urlopen(urllib.request.Request(url, content, method="POST"))


def get(address: str, name: str) -> str:
    quoted = name.replace("/", "%2F")
    url = f"{address}/download/storage/v1/b/some-bucket/o/{quoted}?alt=media"
    return urllib.request.urlopen(url).read().decode()


def config(folder: Path, corpus: str) -> str:
    values = helpers.run_values("gpt", folder, steps=40, checkpoint_every=10)
    values["data"]["corpus"] = [corpus]
    file = folder / "config.py"
    file.write_text(
        "from ml_collections import ConfigDict\n\n\n"
        f"def get_config(arg=''):\n    return ConfigDict({values!r})\n"
    )
    return str(file)


def test_a_run_that_is_killed_goes_on_from_the_bucket(tmp_path, launch, address):
    file = config(tmp_path, "files:gs://some-bucket/data/*.jsonl")
    put(address, "data/corpus.jsonl", (tmp_path / "corpus.jsonl").read_bytes())
    put(address, "words/tokenizer.json", helpers.byte_pairs().to_json().encode())
    words = "gs://some-bucket/words/tokenizer.json"
    tokenizer = ("--config.tokenizer.kind=file", f"--config.tokenizer.path={words}")
    train = ("train", f"--config={file}", *tokenizer)
    killed = launch(*train, "--workdir=gs://some-bucket/runs/killed")
    until = time.monotonic() + 200
    names = ""
    while not re.search("checkpoints/10/commit_success", names):
        assert killed.poll() is None and time.monotonic() < until
        listed = urllib.request.urlopen(f"{address}/storage/v1/b/some-bucket/o").read()
        names = " ".join(o["name"] for o in json.loads(listed).get("items", []))
        time.sleep(0.05)
    killed.send_signal(signal.SIGSTOP)  # it is still there, and gets no further
    second = launch(*train, "--workdir=gs://some-bucket/runs/killed")
    refused, _ = second.communicate(timeout=200)
    assert second.returncode == 2 and f"the process {killed.pid} on host" in refused
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    output = done(launch(*train, "--workdir=gs://some-bucket/runs/killed"))
    assert f"taken over from the process {killed.pid} on host" in output
    assert re.search(r"resuming gs://some-bucket/runs/killed/checkpoints at step \d+", output)
    done(launch(*train, f"--workdir={tmp_path}/whole"))
    whole = (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert get(address, "runs/killed/metrics.jsonl") == whole
    assert "step" in get(address, "runs/killed/timing.jsonl")
    output = done(launch("evaluate", "--checkpoint=gs://some-bucket/runs/killed"))
    assert "gs://some-bucket/runs/killed/evaluation_validation.json" in output


def test_an_experiment_on_the_bucket_is_made_once(tmp_path, launch, address):
    file = config(tmp_path, f"files:{tmp_path}/corpus.jsonl")
    (tmp_path / "experiment.py").write_text(
        "from research.lab.experiment import Experiment, Run\n\n\n"
        "def get_experiment():\n"
        f"    short = {{'train.steps': 2}}\n"
        f"    first = Run({file!r}, overrides=short)\n"
        f"    second = Run({file!r}, overrides=short, start='first')\n"
        "    return Experiment('made', {'first': first, 'second': second}, ('first',))\n"
    )
    arguments = (
        "experiment",
        f"--config={tmp_path}/experiment.py",
        "--workdir=gs://some-bucket/runs/made",
        "--only=*",
    )
    output = done(launch(*arguments))
    assert "second-seed0: done" in output
    assert json.loads(get(address, "runs/made/second-seed0/done.json"))["step"] == 2
    assert "step" in get(address, "runs/made/second-seed0/log.txt")
    assert done(launch(*arguments)).count("finished before") == 2

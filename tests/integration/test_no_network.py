"""Training and using a model asks no network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import helpers
from tests.integration.conftest import write_config

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--net"] if os.name == "posix" and os.geteuid() == 0 else ["unshare", "-rn"]
COMMANDS = (
    "import sys; from research import cli; config, run = sys.argv[1:]; "
    "sys.exit(cli.main(['train', f'--config={config}', f'--workdir={run}']) or "
    "cli.main(['predict', f'--checkpoint={run}', '--text=A bad one.']))"
)


@pytest.mark.long
def test_a_task_is_trained_and_used_in_a_namespace_without_network(tmp_path):
    try:
        allowed = (
            subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no network namespaces here")
    config = write_config(
        tmp_path / "config.py", helpers.run_values("sentiment", tmp_path, steps=2)
    )
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-c", COMMANDS, config, str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert any(label in done.stdout.splitlines()[-1] for label in helpers.LABELS), done.stdout

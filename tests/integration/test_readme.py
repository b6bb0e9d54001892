"""The commands of README and docs, run as they are written, in the tier that their block names.

A block starts with ```bash TIER: "suite" and "long" are run here, "ci" by .ci/run, "not-run" never.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIERS = ("suite", "long", "ci", "not-run")
BLOCK = re.compile(r"^```bash *([a-z-]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [
    ROOT / "README.md",
    ROOT / "research" / "pretrained" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def blocks() -> list[tuple[str, str, str]]:
    """(page, tier, text) of every block of commands."""
    return [(page.name, *found) for page in PAGES for found in BLOCK.findall(page.read_text())]


def commands(tier: str) -> list[tuple[str, str]]:
    """(page, command) of a tier; a line that ends with a backslash goes on in the next."""
    found = []
    for page, its_tier, text in blocks():
        if its_tier == tier:
            lines = text.replace("\\\n", " ").splitlines()
            found += [(page, line) for line in lines if line.strip() and line[0] != "#"]
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder that looks like a fresh clone and in which commands may leave what they like."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("launch.py", "research", "configs", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(command: str, folder: Path, seconds: float) -> str:
    program, *arguments = shlex.split(command)
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    while "=" in program:  # a variable in front
        name, _, environment[name] = program.partition("=")
        program, *arguments = arguments
    assert program == "python", f"a command that is run must start with python: {command}"
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_block_names_its_tier():
    assert blocks()
    for page, tier, text in blocks():
        assert tier in TIERS, f"{page}: a block without a tier: {text[:60]!r}"


def test_commands_of_ci_are_run_by_ci():
    script = (ROOT / ".ci" / "run").read_text()
    for page, command in commands("ci"):
        assert f'" {command}\n' in script, f"{page}: .ci/run does not run {command!r}"


@pytest.mark.parametrize("command", dict.fromkeys(c for _, c in commands("suite")))
def test_commands_of_the_suite(command, checkout):
    assert run(command, checkout, seconds=120).strip()


@pytest.mark.long
def test_programs_of_the_docs(checkout):
    text = (ROOT / "docs" / "python.md").read_text()
    (program,) = re.findall(r"^```python long\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (checkout / "program.py").write_text(program)
    shown = run("python program.py", checkout, seconds=600)
    assert "(2, 192) float32" in shown and "does not continue texts" in shown


@pytest.mark.long
def test_commands_of_the_long_suite(checkout):
    for _, command in commands("long"):
        assert run(command, checkout, seconds=3600).strip()

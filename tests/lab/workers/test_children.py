"""Processes of runs: the command that they note, and the message of a stopped one."""

import shlex
import sys
import time

from research.lab.workers import children
from research.monitoring import starts


def test_a_run_is_told_the_command_that_began_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.py", "experiment", "--only=a b"])
    program = (sys.executable, "-c", f"import os; print(os.environ[{starts.TYPED!r}])")
    child = children.begin(program, tmp_path / "run", 0, 1, 0)
    assert child.process.wait() == 0
    (line,) = children.last_lines(tmp_path / "run", 1)
    assert shlex.split(line)[-2:] == ["experiment", "--only=a b"]


def test_one_that_is_stopped_before_it_could_save_is_told_in_words(tmp_path):
    wait = "import time; print('here', flush=True); time.sleep(60)"
    child = children.begin((sys.executable, "-c", wait), tmp_path / "run", 0, 1, 0)
    while children.last_lines(tmp_path / "run", 1) != ["here"]:
        time.sleep(0.02)
    said = []
    children.stop([child], said.append)
    assert said == ["run: interrupted"]

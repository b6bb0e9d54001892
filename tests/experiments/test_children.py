"""Processes of runs: what they are told."""

import shlex
import sys

from research.experiments import children
from research.monitoring import starts


def test_a_run_is_told_the_command_that_began_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.py", "experiment", "--only=a b"])
    program = (sys.executable, "-c", f"import os; print(os.environ[{starts.TYPED!r}])")
    child = children.begin(program, tmp_path / "run", 0, 1, 0)
    assert child.process.wait() == 0
    (line,) = children.last_lines(tmp_path / "run", 1)
    assert shlex.split(line)[-2:] == ["experiment", "--only=a b"]

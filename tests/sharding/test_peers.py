"""Processes of a run stop at one place, and say which of them died."""

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import helpers
from tests.sharding import small_run

ROOT = Path(__file__).parents[2]
SILENT = "died without a word: killed (SIGKILL; out of memory), crashed in native code, or its host"


def begin(folder: Path, count: int, fault: str = "", workdir: str = "x") -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = helpers.child_environment() | {"RESEARCH_FAULT": fault}
    made = []
    for i in range(count):
        command = [sys.executable, "-m", "tests.sharding.small_run", f"--workdir={workdir}"]
        command += [f"--coordinator=localhost:{port}", f"--num_processes={count}"]
        with open(folder / f"{i}.txt", "w") as output:
            each = subprocess.Popen(
                [*command, f"--process_id={i}"], cwd=ROOT, env=env, stdout=output, stderr=output
            )
        made.append(each)
    return made


def end(folder: Path, made: list[subprocess.Popen], seconds: float) -> tuple[list[int], list[str]]:
    """Exit codes, and the output of each process."""
    try:
        until = time.monotonic() + seconds
        codes = [process.wait(max(0.1, until - time.monotonic())) for process in made]
    finally:
        for process in made:
            process.kill()
            process.wait()
    return codes, [(folder / f"{i}.txt").read_text() for i in range(len(made))]


def last(text: str) -> str:
    return text.splitlines()[-1]


def wait_for_step(folder: Path, step: int, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while f"step {step}\n" not in (folder / "0.txt").read_text():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_all_stop_when_one_is_asked_before_the_first_step_of_a_resumed_run(tmp_path):
    made = begin(tmp_path, 2, workdir=small_run.ASK)
    codes, texts = end(tmp_path, made, 120)
    steps = [re.findall(r"step (\d+)", text) for text in texts]
    assert codes == [130, 130], texts
    assert steps[0] == steps[1] and len(steps[0]) < 10, "not at the end of it"


def test_who_died_without_a_word_is_the_last_line_of_the_others(tmp_path):
    made = begin(tmp_path, 3, fault="kill:1:105")
    codes, texts = end(tmp_path, made, 120)
    assert codes == [1, -signal.SIGKILL, 1], texts
    for i in (0, 2):
        who = f"error: process 1/3 (host {socket.gethostname()}, pid {made[1].pid}) {SILENT}"
        assert last(texts[i]).startswith(who), texts[i]


@pytest.mark.long
def test_so_is_the_coordinator(tmp_path):
    made = begin(tmp_path, 3, fault="kill:0:105")
    codes, texts = end(tmp_path, made, 120)
    assert codes == [-signal.SIGKILL, 1, 1], texts
    for text in texts[1:]:
        assert last(text).startswith("error: process 0/3 (coordinator localhost:"), text
        assert SILENT in last(text)


@pytest.mark.long
@pytest.mark.parametrize("failed", [0, 1])
def test_an_error_of_one_is_the_last_line_of_all(tmp_path, failed):
    made = begin(tmp_path, 3, fault=f"fail:{failed}:105")
    codes, texts = end(tmp_path, made, 120)
    assert codes == [1, 1, 1], texts
    who = f"error: process {failed}/3 (host {socket.gethostname()}, pid {made[failed].pid}) ended:"
    for text in texts:
        assert last(text).startswith(f"{who} RuntimeError: RESEARCH_FAULT="), text


@pytest.mark.long
@pytest.mark.parametrize("hung", [0, 1])
def test_a_hang_of_one_ends_all_with_the_stacks_of_all(tmp_path, hung):
    codes, texts = end(tmp_path, begin(tmp_path, 3, f"hang:{hung}:105", small_run.WATCH), 120)
    assert codes == [4, 4, 4], texts
    for i, text in enumerate(texts):
        assert last(text).startswith("error: hung: process ") and "step 105 has not" in last(text)
        assert ("in before" in text) == (i == hung), "the main thread of the one that hangs"


@pytest.mark.long
def test_a_second_notice_ends_all_at_once(tmp_path):
    made = begin(tmp_path, 2, fault="hang:0:107")
    wait_for_step(tmp_path, 105)
    made[1].send_signal(signal.SIGINT)
    made[0].send_signal(signal.SIGINT)
    time.sleep(0.1)
    made[0].send_signal(signal.SIGINT)
    codes, texts = end(tmp_path, made, 60)
    assert codes == [130, 130], texts
    assert "steps are lost; the newest checkpoint is that of step 100" in last(texts[1])

"""One process at a time in a folder; a stale lock file does not keep others out."""

import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from research import lock
from research.errors import UserError
from research.sharding import peers

HOLD = (
    "import sys; from etils import epath; from research import lock; "
    "held = lock.alone(epath.Path(sys.argv[1]), 'l'); held.__enter__(); "
    "print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path) / "a" / "b"


def test_a_second_one_is_told_who_is_there_and_since_when(folder):
    with lock.alone(folder, "l"):
        with pytest.raises(UserError) as refused, lock.alone(folder, "l"):
            pass
        assert (folder / "l").exists()
    assert re.search(
        rf"{folder}: the process {os.getpid()} on host \S+ \(since 20\d\d-\d\d-\d\d \d\d:\d\d:",
        str(refused.value),
    )
    assert not folder.parent.exists(), "what was made for it alone goes with it"


def test_it_goes_whatever_ends_the_work(folder):
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), lock.alone(folder, "l"):
            (folder / "mine").touch()
            raise error
    assert [file.name for file in folder.iterdir()] == ["mine"]
    with lock.alone(folder, "l"):
        for call in peers.before_exit:  # as where a process ends without unwinding
            call()
        assert not (folder / "l").exists()


def test_that_of_a_killed_process_is_taken_over_and_it_is_said(folder, capfd):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    with pytest.raises(UserError, match=f"the process {process.pid} on"), lock.alone(folder, "l"):
        pass
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet
    for _ in range(2):
        with lock.alone(folder, "l"):
            pass
    process.communicate()
    assert capfd.readouterr().err.count(f"taken over from the process {process.pid} on host") == 1
    reused = json.dumps(lock._me() | {"token": "", "started": "12"})  # the number, not the process
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "l").write_text(reused)
    with lock.alone(folder, "l"):
        pass


def test_one_on_another_host_is_alive_while_its_text_changes(folder, monkeypatch, capfd):
    monkeypatch.setattr(lock, "BEAT", 0.2)
    monkeypatch.setattr(lock, "STALE", 1.0)
    monkeypatch.setattr(lock, "PAUSE", 0.1)
    with lock.alone(folder, "l"), monkeypatch.context() as elsewhere:
        here = lock._me()
        elsewhere.setattr(lock, "_me", lambda: here | {"host": "other", "place": ["other"]})
        with pytest.raises(UserError, match="is at work in it"), lock.alone(folder, "l"):
            pass
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "l").write_text(json.dumps(here | {"host": "gone", "place": ["gone"], "token": ""}))
    with lock.alone(folder, "l"):
        pass
    assert "taken over from the process" in capfd.readouterr().err


def test_of_many_at_once_one_gets_it(folder, monkeypatch):
    """The lock file of a dead process is there, which each of them has to remove."""
    monkeypatch.setattr(lock, "PAUSE", 0.3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "l").write_text(json.dumps(lock._me() | {"token": "", "started": "12"}))
    inside, most, refused = [], [], []

    def work():
        try:
            with lock.alone(folder, "l"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(1)
                inside.pop()
        except UserError:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and len(refused) == 7

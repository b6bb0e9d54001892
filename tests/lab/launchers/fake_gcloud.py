"""Stands in for gcloud: a slice is a folder $CLOUD/machines/I for each worker, ssh a local shell.

$CLOUD/calls has every command. Where there is a file $CLOUD/preempt, the slice is taken away, once,
while a log is followed, as soon as the first worker has the file that its pattern names.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLOUD = Path(os.environ["CLOUD"])
STATE = CLOUD / "state.json"
WORKERS = int(os.environ.get("WORKERS", "1"))
HOMES = [CLOUD / "machines" / str(i) for i in range(WORKERS)]

arguments = sys.argv[1:]
flags = dict(a[2:].split("=", 1) for a in arguments if a.startswith("--") and "=" in a)
verb = arguments[3]
with open(CLOUD / "calls", "a") as calls:
    calls.write(json.dumps(arguments) + "\n")


def lose(state):
    """The machines are gone, with all that runs on them; the bucket stays."""
    for home in HOMES:
        for pid in home.glob("*/run-*/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)
        for entry in home.iterdir():
            if entry.name not in ("bucket", "bin"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    STATE.write_text(json.dumps(json.loads(STATE.read_text()) | {"state": state}))


def ssh(command):
    shells = []
    for home in HOMES:
        environment = os.environ | {"HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"}
        shells.append(subprocess.Popen(["bash", "-c", command], cwd=home, env=environment))
    preempt = CLOUD / "preempt"
    if preempt.exists() and "tail " in command:
        while not list(HOMES[0].glob(preempt.read_text())):
            if shells[0].poll() is not None:
                sys.exit("the training ended before it was preempted")
            time.sleep(0.05)
        preempt.unlink()
        lose("SUSPENDED")
        [shell.wait() for shell in shells]
        return 255
    return next(filter(None, [shell.wait() for shell in shells]), 0)


def main():
    if verb == os.environ.get("REFUSES"):
        return 1
    if verb == "create":
        for home in HOMES:
            (home / "bin").mkdir(parents=True, exist_ok=True)
            python = home / "bin" / "python3"  # `python3 -m uv venv … .venv` makes one there
            python.write_text(
                '#!/bin/bash\ncase "$*" in "-m uv venv"*)\n  mkdir -p .venv/bin\n'
                f"  printf '#!/bin/bash\\nexec {sys.executable} \"$@\"' > .venv/bin/python\n"
                "  chmod +x .venv/bin/python\nesac\n"
            )
            python.chmod(0o755)
        STATE.write_text(json.dumps({"state": "ACTIVE", "type": flags["accelerator-type"]}))
        return 0
    if verb == "describe":
        if not STATE.exists():
            return 1
        found = json.loads(STATE.read_text())
        print(found["state"], found["type"], sep="\t")
        return 0
    if verb == "scp":
        source, target = arguments[4:6]
        for home in HOMES:
            shutil.copy(source, home / re.sub("^[^:]*:", "", target))
        return 0
    if verb == "ssh":
        return ssh(flags["command"])
    if verb == "delete":
        lose("")
        STATE.unlink()
        return 0
    raise SystemExit(f"unknown: {arguments}")


sys.exit(main())

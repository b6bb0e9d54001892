"""Injects faults, to test how a run and its launcher handle them.

Set RESEARCH_FAULT=KIND:PROCESS:STEP in the environment of all processes of a run: "kill:1:7" kills
process 1 before step 7, "hang:1:7" hangs its main thread forever, "fail:1:7" raises an error.
"""

import os
import re
import signal
import time

from research.errors import UserError
from research.sharding import peers

VARIABLE = "RESEARCH_FAULT"
KINDS = ("kill", "hang", "fail")


def before(step: int) -> None:
    """Injects the fault that is set for this process before this step, if any.

    Raises:
        UserError: the variable is malformed.
        RuntimeError: the fault is "fail".
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return
    if not re.fullmatch(rf"({'|'.join(KINDS)}):\d+:\d+", text):
        raise UserError(f"{VARIABLE}={text} must be KIND:PROCESS:STEP, such as kill:0:7")
    kind, process, when = text.split(":")
    others = peers.get()
    if (int(process), int(when)) != (others.process if others else 0, step):
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "fail":
        raise RuntimeError(f"{VARIABLE}={text}")
    while True:
        time.sleep(1)

"""Faults on purpose, to try what a run and its launcher make of them.

The variable RESEARCH_FAULT, in the environment of all processes of a run, is KIND:PROCESS:STEP:
"kill:1:7" kills process 1 before step 7, "hang:1:7" leaves its main thread there for ever, and
"fail:1:7" raises an error.
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
    """The fault that this process is to have before this step, if any.

    Raises:
        UserError: the variable is not as above.
        RuntimeError: an error was asked for.
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

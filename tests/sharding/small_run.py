"""A run of several processes that costs no compilation: python -m tests.sharding.small_run.

It goes on from step 100, and each of 40 steps is a sum over all processes. It ends as a training
does, with the code of its command; `tests/sharding/test_peers.py` reads what it prints.
"""

import ctypes
import sys
import time

from research import cli
from research.verbs import PROCESSES, Verb

START, STEPS = 100, 40
ASK = "ask"  # --workdir=ask: the last process is asked to stop before its first step
WATCH = "watch"  # --workdir=watch: a step may take 2 s


def run(workdir: str) -> int:
    """`STEPS` steps, 0.2 s each."""
    import os
    import signal

    import jax
    import numpy as np

    from research.sharding import processes
    from research.training import faults
    from research.training.stop import Stop
    from research.training.watchdog import Watchdog

    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    split = jax.NamedSharding(mesh, jax.P("data"))
    ones = np.ones(jax.device_count(), np.float32)
    x = jax.make_array_from_callback(ones.shape, split, lambda index: ones[index])
    total = jax.jit(lambda x: x.sum(), out_shardings=jax.NamedSharding(mesh, jax.P()))
    with Stop(START) as stop, Watchdog(2 if workdir == WATCH else 600, 20) as watchdog:
        if workdir == ASK and jax.process_index() == jax.process_count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        for step in range(START + 1, START + STEPS + 1):
            faults.before(step)
            time.sleep(0.2)
            assert float(total(x)) == jax.process_count()
            stop.done = step
            watchdog.ended(step)
            print(f"step {step}", file=sys.stderr, flush=True)
            if stop.reached():
                processes.together("the end")
                return 130
    processes.together("the end")
    return 0


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 9)  # dead when the tests are
    verb = Verb("tests.sharding.small_run:run", "", required={"workdir": ""}, optional=PROCESSES)
    sys.exit(cli.execute("small", verb, sys.argv[1:]))

"""How runs share a machine: the cores or the devices that each of them has."""

import functools
import os
import subprocess
import sys

from research.errors import UserError

MOST = 4  # runs at a time on CPU unless told: each has its own memory
GPU_MEMORY = 0.9  # that runs which share GPUs take together, each an equal part
GPU_PART = "XLA_CLIENT_MEM_FRACTION"
OLD_GPU_PART = "XLA_PYTHON_CLIENT_MEM_FRACTION"  # beside the new name it is an error of jaxlib
ASK = "import jax; print(jax.default_backend(), jax.local_device_count())"


@functools.cache
def machine() -> tuple[str, int]:
    """(backend, devices). A process of its own asks, and lets go of the devices."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=False
    )
    found = answer.stdout.split()
    return (found[0], int(found[1])) if len(found) == 2 else ("cpu", 1)


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def count(parallel: int, devices: int) -> int:
    """Runs at a time.

    Args:
        parallel: as the user says; 0: on CPU one for each core, at most MOST, on accelerators as
            many as `devices` of each leave room for.
        devices: of each run; 0: all.

    Raises UserError for devices that there are not, and for several runs on the same TPU chips.
    """
    backend, there = ("cpu", 1) if parallel == 1 and not devices else machine()
    if not devices:
        if backend == "tpu" and parallel > 1:
            raise UserError(
                f"--parallel={parallel}: a TPU chip belongs to one process; --devices=1 gives each "
                "run a chip of its own"
            )
        return parallel or (min(MOST, len(cores())) if backend == "cpu" else 1)
    if backend == "cpu":
        raise UserError(
            f"--devices={devices} shares out GPUs or TPU chips, and this machine has none; on CPU "
            "--parallel says how many runs share the cores"
        )
    if backend == "tpu" and devices != 1:
        raise UserError(f"--devices={devices}: of a TPU machine a run has one chip or all; give 1")
    most = there // devices
    if not most or parallel > most:
        raise UserError(
            f"--devices={devices} for {parallel or 1} runs at a time are more than the {there} "
            "of this machine"
        )
    return parallel or most


def environment(lane: int, lanes: int, devices: int) -> dict[str, str]:
    """What makes a run of a lane see its own devices only; `devices` 0: all, and of a GPU's memory
    its part (https://docs.jax.dev/en/latest/201/gpu-memory.html)."""
    if not devices:
        if lanes == 1 or GPU_PART in os.environ or OLD_GPU_PART in os.environ:
            return {}
        return {GPU_PART: f"{GPU_MEMORY / lanes:.2f}"}
    return {
        "CUDA_VISIBLE_DEVICES": _own("CUDA_VISIBLE_DEVICES", lane, devices),
        "TPU_VISIBLE_CHIPS": _own("TPU_VISIBLE_CHIPS", lane, devices),
        # One chip is a slice of its own (https://docs.jax.dev/en/latest/faq.html).
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
    }


def _own(variable: str, lane: int, devices: int) -> str:
    """A lane's devices, of those that this process may see."""
    numbers = range(lane * devices, (lane + 1) * devices)
    if seen := os.environ.get(variable):
        return ",".join(seen.split(",")[numbers.start : numbers.stop])
    return ",".join(map(str, numbers))


def own_cores(lane: int, lanes: int) -> str:
    """The numbers of a lane's part of the cores, with commas; empty: all of them."""
    there = cores()
    if lanes == 1 or len(there) < lanes:
        return ""
    part = there[lane * len(there) // lanes : (lane + 1) * len(there) // lanes]
    return ",".join(map(str, part))


def part(lanes: int, devices: int) -> float:
    """What a run of a lane has of the machine, in devices; on CPU in parts of all the cores."""
    backend, there = machine()
    return float(devices) if devices else (1 if backend == "cpu" else there) / lanes

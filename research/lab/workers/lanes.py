"""Divides a machine's cores or devices among runs."""

import functools
import os
import subprocess
import sys

from research.errors import UserError

MOST = 4  # default limit of runs at a time on CPU: each needs its own memory
GPU_MEMORY = 0.9  # fraction of GPU memory for all runs that share GPUs, in equal parts
GPU_PART = "XLA_CLIENT_MEM_FRACTION"
OLD_GPU_PART = "XLA_PYTHON_CLIENT_MEM_FRACTION"  # jaxlib raises an error if both are set
ASK = "import jax; print(jax.default_backend(), jax.local_device_count())"


@functools.cache
def machine() -> tuple[str, int]:
    """Returns (backend, number of devices); asks in a child process, which releases the devices."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=False
    )
    words = answer.stdout.split()
    return (words[0], int(words[1])) if len(words) == 2 else ("cpu", 1)


def cores() -> list[int]:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def count(parallel: int, devices: int) -> int:
    """Returns the number of runs at a time.

    Args:
        parallel: number that the user asks for; 0: on CPU one per core, at most MOST; on
            accelerators as many as have room with `devices` each.
        devices: devices of each run; 0: all.

    Raises UserError for more devices than the machine has, or several runs on the same TPU chips.
    """
    backend, available = ("cpu", 1) if parallel == 1 and not devices else machine()
    if not devices:
        if backend == "tpu" and parallel > 1:
            raise UserError(
                f"--parallel={parallel}: a TPU chip belongs to one process; --devices=1 gives each "
                "run its own chip"
            )
        return parallel or (min(MOST, len(cores())) if backend == "cpu" else 1)
    if backend == "cpu":
        raise UserError(
            f"--devices={devices} divides GPUs or TPU chips, and this machine has none; on CPU "
            "--parallel sets how many runs share the cores"
        )
    if backend == "tpu" and devices != 1:
        raise UserError(f"--devices={devices}: on TPU a run gets one chip or all; give 1")
    most = available // devices
    if not most or parallel > most:
        raise UserError(
            f"--devices={devices} for {parallel or 1} runs at a time is more than the {available} "
            "of this machine"
        )
    return parallel or most


def environment(lane: int, lanes: int, devices: int) -> dict[str, str]:
    """Returns variables that show a lane's run only its own devices; `devices` 0: all devices, and
    its part of a GPU's memory (https://docs.jax.dev/en/latest/201/gpu-memory.html)."""
    if not devices:
        if lanes == 1 or GPU_PART in os.environ or OLD_GPU_PART in os.environ:
            return {}
        return {GPU_PART: f"{GPU_MEMORY / lanes:.2f}"}
    return {
        "CUDA_VISIBLE_DEVICES": _own("CUDA_VISIBLE_DEVICES", lane, devices),
        "TPU_VISIBLE_CHIPS": _own("TPU_VISIBLE_CHIPS", lane, devices),
        # One chip forms its own slice (https://docs.jax.dev/en/latest/faq.html).
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
    }


def _own(variable: str, lane: int, devices: int) -> str:
    """Returns a lane's devices among those that this process may see."""
    numbers = range(lane * devices, (lane + 1) * devices)
    if seen := os.environ.get(variable):
        return ",".join(seen.split(",")[numbers.start : numbers.stop])
    return ",".join(map(str, numbers))


def own_cores(lane: int, lanes: int) -> str:
    """Returns a lane's cores as comma-separated numbers, "" for all cores."""
    available = cores()
    if lanes == 1 or len(available) < lanes:
        return ""
    part = available[lane * len(available) // lanes : (lane + 1) * len(available) // lanes]
    return ",".join(map(str, part))


def part(lanes: int, devices: int) -> float:
    """Returns a lane's part of the machine in devices; on CPU, all cores count as one device."""
    backend, available = machine()
    return float(devices) if devices else (1 if backend == "cpu" else available) / lanes

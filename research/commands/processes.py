"""The flags of a run of several processes."""

import os
import sys
from collections.abc import Mapping

from research.errors import UserError
from research.sharding import processes
from research.sharding.processes import Place
from research.verbs import PROCESSES


def join(**flags: str | int) -> None:
    """Joins the other processes of this run, if it has any.

    flags: those of `PROCESSES`; without any, jax's own cluster detection says so.
    --num_processes=1 is a run alone.

    Raises UserError for flags that do not fit together.
    """
    place = _place(flags)
    _say_if_bound()
    if place is not None:
        processes.join(place)


def _say_if_bound() -> None:
    """Launchers bind a process to one core where they are not told how many it needs."""
    if not hasattr(os, "sched_getaffinity"):  # not on macOS
        return
    if len(os.sched_getaffinity(0)) == 1 < (os.cpu_count() or 1):
        print(
            f"this process may use 1 of {os.cpu_count()} cores, for reading the data too; more: "
            "mpirun --bind-to none, srun --cpus-per-task=N, --on.cpus_per_task=N",
            file=sys.stderr,
            flush=True,
        )


def _place(flags: Mapping[str, str | int]) -> Place | None:
    there = [f"--{name}={flags[name]}" for name in PROCESSES if name in flags]
    if not there:
        return processes.find()
    if there == ["--num_processes=1"]:
        return None
    missing = [f"--{name}" for name in PROCESSES if name not in flags]
    if missing:
        raise UserError(
            f"{' and '.join(there)} without {' and '.join(missing)}: each process of a run has all "
            "three, --coordinator=HOST:PORT (of process 0), --num_processes=N and its own "
            "--process_id from 0 to N - 1"
        )
    coordinator, process, count = (flags[name] for name in PROCESSES)
    if process >= count:
        raise UserError(
            f"--process_id={process} with --num_processes={count}: they are counted from 0 to "
            f"{count - 1}"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(
            f"--coordinator={coordinator} must be HOST:PORT of process 0, as 10.0.0.1:1234"
        )
    return Place(coordinator, process, count)

"""Joins the processes of a run, from flags or from the cluster."""

import os
import sys
from collections.abc import Mapping

from research.errors import UserError
from research.sharding import processes
from research.sharding.processes import Place
from research.verbs import PROCESSES


def join(**flags: str | int) -> None:
    """Joins the other processes of this run, if it has any.

    flags: those of `PROCESSES`; without any, jax detects the cluster. --num_processes=1 joins none.

    Raises UserError if a flag is missing or not valid.
    """
    place = _place(flags)
    _say_if_bound()
    if place is not None:
        processes.join(place)


def _say_if_bound() -> None:
    """Warns if the process has one core: launchers bind it so unless told how many it needs."""
    if not hasattr(os, "sched_getaffinity"):  # not on macOS
        return
    if len(os.sched_getaffinity(0)) == 1 < (os.cpu_count() or 1):
        print(
            f"this process may use 1 of {os.cpu_count()} cores, for reading data too; for more: "
            "mpirun --bind-to none, srun --cpus-per-task=N, --on.cpus_per_task=N",
            file=sys.stderr,
            flush=True,
        )


def _place(flags: Mapping[str, str | int]) -> Place | None:
    written = [f"--{name}={flags[name]}" for name in PROCESSES if name in flags]
    if not written:
        return processes.find()
    if written == ["--num_processes=1"]:
        return None
    missing = [f"--{name}" for name in PROCESSES if name not in flags]
    if missing:
        raise UserError(
            f"{' and '.join(written)} without {' and '.join(missing)}: each process needs all "
            "three, --coordinator=HOST:PORT (of process 0), --num_processes=N and its own "
            "--process_id from 0 to N - 1"
        )
    coordinator, process, count = (flags[name] for name in PROCESSES)
    if process >= count:
        raise UserError(
            f"--process_id={process} with --num_processes={count}: must be from 0 to {count - 1}"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(
            f"--coordinator={coordinator} must be HOST:PORT of process 0, such as 10.0.0.1:1234"
        )
    return Place(coordinator, process, count)

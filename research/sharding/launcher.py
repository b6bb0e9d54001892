"""What a program that starts processes (mpirun, srun, torchrun) tells them by variables."""

import os
import zlib

from research.errors import UserError

# The variables with the number of processes and the number of this one, and who sets them.
VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "Open MPI"),
    ("PMI_SIZE", "PMI_RANK", "MPICH, Intel MPI or Slurm's PMI"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "Slurm"),
    ("WORLD_SIZE", "RANK", "torchrun"),
)
PORTS = range(61440, 65536)  # as jax takes them on a cluster


def open_mpi_5() -> tuple[str, int, int, tuple[int, ...]] | None:
    """(coordinator, processes, this process, its devices) under the mpirun of Open MPI 5, which jax
    does not know without mpi4py; None elsewhere, and where they are not all on one machine."""
    values = {name: _number(f"OMPI_COMM_WORLD_{name}") for name in ("SIZE", "RANK", "LOCAL_SIZE")}
    if None in values.values() or "OMPI_MCA_orte_hnp_uri" in os.environ:  # Open MPI 4 has this one
        return None
    if values["LOCAL_SIZE"] != values["SIZE"]:
        return None
    # The name of the job, the same in all of its processes and no other's.
    job = os.environ.get("PMIX_NAMESPACE", "").encode()
    port = os.environ.get("JAX_COORDINATOR_PORT") or PORTS[zlib.crc32(job) % len(PORTS)]
    return f"127.0.0.1:{port}", values["SIZE"], values["RANK"], (values["RANK"],)


def check(count: int) -> None:
    """Raises UserError where the variables tell of more than the `count` processes that were found:
    each would make the whole run, all of them in one workdir."""
    for size, rank, who in VARIABLES:
        told = _number(size)
        if told is not None and _number(rank) is not None and told > max(count, 1):
            raise UserError(
                f"{who} has started {told} processes ({size}={told}), and "
                f"{'they do not find each other' if count == 1 else f'{count} of them are found'}: "
                "give them\n"
                f"  --coordinator=HOST:PORT --process_id=${rank} --num_processes=${size}\n"
                "with the host of process 0 and a free port there, in a shell that each process "
                "has (bash -c '…'); or --num_processes=1 to run in each process alone"
            )


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None

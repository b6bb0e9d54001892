"""Runs of several processes: how the processes find each other, agree, and end together.

Each process sees its own devices only; jax makes one mesh of all devices, and every process makes
the same calls in the same order. Messages here go through jax's coordination service, a server in
process 0. It needs no device, so it works before there is a mesh, and it has time-outs.
"""

import dataclasses
import itertools
import json
import os
import re
import socket
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import jax
from jax._src import clusters, distributed  # the public names ask the devices, or cannot be asked

from research.errors import UserError, differing
from research.sharding import peers

DAY = 86_400
TIMEOUT = 300  # seconds that a process waits for the others; hosts start unevenly
HEARTBEAT = 30  # seconds without a heartbeat after which a process counts as dead

# Environment variables with the number of processes and this one's number, and who sets them.
VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "Open MPI"),
    ("PMI_SIZE", "PMI_RANK", "MPICH, Intel MPI or Slurm's PMI"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "Slurm"),
    ("WORLD_SIZE", "RANK", "torchrun"),
)
PORTS = range(61440, 65536)  # jax's own range on a cluster

_calls = itertools.count()


@dataclasses.dataclass(frozen=True)
class Place:
    """One process among `count`; coordinator: HOST:PORT of process 0; devices: the local devices
    that it may use, None for all."""

    coordinator: str
    process: int
    count: int
    devices: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"process {self.process}/{self.count}"


def find() -> Place | None:
    """This process's place in the cluster that jax detects: Cloud TPU, GKE, Slurm, Open MPI.

    Returns None without a cluster, and in a cluster of one process, where nothing is to be started.

    Raises UserError if a cluster does not describe itself, or if a launcher has started more
    processes than were found.
    """
    coordinator, count, process, devices = _open_mpi_5() or _cluster()
    alone = None in (coordinator, count, process) or count == 1
    _check_launched(1 if alone else count)
    if alone:
        return None
    # jax gives each Slurm task one device; a task that is alone on its node has all of them.
    if re.fullmatch(r"1(\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")):
        devices = None
    return Place(coordinator, process, count, None if devices is None else tuple(devices))


def _open_mpi_5() -> tuple[str, int, int, tuple[int, ...]] | None:
    """(coordinator, processes, this process, its devices) under the mpirun of Open MPI 5, which jax
    cannot detect without mpi4py; None elsewhere, or if the processes are on several machines."""
    values = {name: _number(f"OMPI_COMM_WORLD_{name}") for name in ("SIZE", "RANK", "LOCAL_SIZE")}
    if None in values.values() or "OMPI_MCA_orte_hnp_uri" in os.environ:  # set by Open MPI 4
        return None
    if values["LOCAL_SIZE"] != values["SIZE"]:
        return None
    # The name of the job: the same in all of its processes, and unique to it.
    job = os.environ.get("PMIX_NAMESPACE", "").encode()
    port = os.environ.get("JAX_COORDINATOR_PORT") or PORTS[zlib.crc32(job) % len(PORTS)]
    return f"127.0.0.1:{port}", values["SIZE"], values["RANK"], (values["RANK"],)


def _check_launched(count: int) -> None:
    """Raises UserError if a launcher has started more than the `count` processes that were found:
    each process would do the whole run, all in one workdir."""
    for size, rank, launcher in VARIABLES:
        started = _number(size)
        if started is not None and _number(rank) is not None and started > max(count, 1):
            raise UserError(
                f"{launcher} has started {started} processes ({size}={started}), but "
                f"{'they do not find each other' if count == 1 else f'only {count} are found'}: "
                "give them\n"
                f"  --coordinator=HOST:PORT --process_id=${rank} --num_processes=${size}\n"
                "with the host of process 0 and a free port there, in a shell of each process "
                "(bash -c '…'); or --num_processes=1 to run in each process alone"
            )


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None


def _cluster() -> tuple:
    """(coordinator, processes, this process, its devices) as jax detects them; None if not."""
    # jax treats every Kubernetes pod as part of a cluster, but only those of an indexed job are.
    pod = "KUBERNETES_SERVICE_HOST" in os.environ and "JOB_COMPLETION_INDEX" not in os.environ
    try:
        with warnings.catch_warnings():
            if pod:
                warnings.simplefilter("ignore")
            return clusters.ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, TIMEOUT
            )
    except Exception as error:  # a cluster's services may fail in any way
        if pod:
            return None, None, None, None
        raise UserError(
            f"this looks like a cluster, but its processes cannot be found: {error}\n"
            "give --coordinator, --process_id and --num_processes, or --num_processes=1 to run "
            "in this process alone"
        ) from error


def join(place: Place) -> None:
    """Waits until all processes have joined. Call it before any device is touched.

    After TIMEOUT seconds, a process says what is missing and ends with code 2. From here on, all
    processes end when one dies.
    """
    print(f"{place}, coordinator {place.coordinator}", file=sys.stderr, flush=True)
    jax.config.update("jax_enable_preemption_service", False)  # `training.stop` listens itself
    # At its own time-out, jax aborts the process without saying what to do.
    timer = threading.Timer(TIMEOUT, _give_up, [place])
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.process,
            place.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=2 * TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=peers.PARTING,
        )
    except RuntimeError as error:  # a port in use
        raise UserError(
            f"{place} cannot join at {place.coordinator}: {str(error).splitlines()[0]}"
        ) from error
    finally:
        timer.cancel()
    peers.start(distributed.global_state.client, place.process, place.count, place.coordinator)


def _give_up(place: Place) -> None:
    host, _, port = place.coordinator.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        reason = (
            f"not all {place.count} processes have joined at {place.coordinator}: start the "
            f"missing ones, each with its own --process_id from 0 to {place.count - 1}"
        )
    except socket.gaierror as error:
        reason = (
            f"the name {host!r} does not resolve on {socket.gethostname()} ({error.strerror}): "
            "give process 0's address, --coordinator=ADDRESS:PORT. The others may be unable to "
            "resolve Slurm's name of a node (NodeName)"
        )
    except OSError as error:
        reason = (
            f"nobody answers at {place.coordinator} ({error.strerror or error}): process 0 must "
            "run on that host, and its port must be open to the others"
        )
    print(f"error: {place} waited {TIMEOUT} s: {reason}", file=sys.stderr, flush=True)
    os._exit(2)


def first() -> bool:
    """Whether this is process 0, the one that prints and writes; touches no device."""
    return distributed.global_state.process_id == 0


def together(what: str, patience: int = TIMEOUT) -> None:
    """Waits until every process has called this. Raises UserError after `patience` seconds; a
    process that dies ends the others sooner."""
    state = distributed.global_state
    if state.client is None:
        return
    try:
        state.client.wait_at_barrier(f"{what} {next(_calls)}", patience * 1000)
    except RuntimeError as error:
        raise UserError(
            f"process {state.process_id}/{state.num_processes} waited {patience} s for the others "
            f"({what}); their output says where they are"
        ) from error


def by_first(what: str, call: Callable[[], Any]) -> None:
    """Calls `call` in process 0 while the others wait. Raises its UserError in all of them."""
    state = distributed.global_state
    place, error = f"{what} {next(_calls)}", None
    if first():
        try:
            call()
        except UserError as refused:
            error = refused
        if state.client is not None:
            state.client.key_value_set(place, str(error or ""))
    elif text := state.client.blocking_key_value_get(place, TIMEOUT * 1000):
        error = UserError(text)
    if error is not None:
        raise error


def same(what: str, values: Any, right: str) -> None:
    """Raises UserError in every process if `values` (JSON) differ between processes. The message
    has the keys that differ, and `right`."""
    state = distributed.global_state
    if state.client is None:
        return
    place = f"{what} {next(_calls)}"
    if state.process_id == 0:
        state.client.key_value_set(f"{place}/values", json.dumps(values))
    first = state.client.blocking_key_value_get(f"{place}/values", TIMEOUT * 1000)
    own, expected = _flat(values), _flat(json.loads(first))
    differ = [
        f"  {key}: {expected.get(key)!r} in process 0, {own.get(key)!r} in process "
        f"{state.process_id}"
        for key in differing(own, expected)
    ]
    state.client.key_value_set(f"{place}/differ/{state.process_id:06}", "\n".join(differ[:8]))
    together(what)
    reports = [lines for _, lines in sorted(state.client.key_value_dir_get(f"{place}/differ/"))]
    if any(reports):
        raise UserError(
            "\n".join([f"the processes differ in {what}:", *[x for x in reports if x][:4], right])
        )


def _flat(values: Any) -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, with numbers and texts as JSON stores them."""
    values = json.loads(json.dumps(values))
    pairs, _ = jax.tree_util.tree_flatten_with_path(values, is_leaf=lambda x: x is None)
    return {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in pairs}

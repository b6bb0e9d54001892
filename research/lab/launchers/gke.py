"""Launches on a Kubernetes cluster with TPUs through xpk: a workload (JobSet), a pod per machine.

xpk adds the code as of the commit to the base image. The exit code of a preempted pod restarts the
workload; that of wrong input (2) does not.
"""

import dataclasses
import shlex
import tempfile
from pathlib import Path
from typing import Literal

from research.errors import UserError
from research.lab.launchers import google, programs, snapshot
from research.lab.launchers.options import fill
from research.lab.launchers.request import Request, check_reachable, committed_config
from research.monitoring import starts
from research.values import Count, Filled, Size

LONGEST = 40  # characters of a name, as of xpk 1.16
PLACE = "CODE"  # placeholder for the code's folder in a dry run


@dataclasses.dataclass(frozen=True)
class Options:
    """Options with xpk's names. name: the workload's name; "": derived from the workdir."""

    project: Filled
    zone: Filled
    cluster: Filled
    tpu_type: Filled
    num_slices: Size = 1
    name: str = ""
    base_docker_image: str = "python:3.12"
    priority: Literal["very-low", "low", "medium", "high", "very-high"] = "medium"
    max_restarts: Count = 10


def launch(request: Request, values: dict[str, str], dry_run: bool) -> int:
    """Submits the workload, or prints the commands. Raises UserError for wrong input."""
    options = fill(Options, values, "gke")
    google.check_place(options.project, options.zone)
    google.check(request, "gke", "tpu_type", options.tpu_type, options.num_slices)
    name = google.name_of(options.name, request.workdir, LONGEST)
    commit = snapshot.clean_commit()
    check_reachable(request)
    train = request.command(committed_config(request))
    if dry_run:
        print(f"git archive {commit} | tar -x -C {PLACE}")
        print(f"echo {commit} > {PLACE}/{starts.SENT}")
        print(shlex.join(create(options, name, PLACE, train)))
        print(*watch(options, name), sep="\n")
        return 0
    programs.require("xpk", "`pipx install xpk` installs it")
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code"
        snapshot.extract(commit, code)
        failed = programs.call(create(options, name, str(code), train))
    if failed:
        raise UserError(f"xpk failed with exit code {failed}; its message is above")
    print("submitted. To watch it, and to delete it:", *watch(options, name), sep="\n  ")
    return 0


def create(options: Options, name: str, code: str, train: list[str]) -> list[str]:
    """Returns the command that submits the workload."""
    install = "pip install --quiet -r requirements-tpu.txt"
    return [
        *("xpk", "workload", "create", f"--workload={name}", *_where(options)),
        f"--tpu-type={options.tpu_type}",
        f"--num-slices={options.num_slices}",
        f"--base-docker-image={options.base_docker_image}",
        f"--script-dir={code}",
        f"--priority={options.priority}",
        f"--max-restarts={options.max_restarts}",
        f"--command={install} && exec {shlex.join(train)}",
    ]


def watch(options: Options, name: str) -> list[str]:
    """Returns the commands for users to watch and to delete the workload."""
    where = _where(options)
    logs = f"--selector=jobset.sigs.k8s.io/jobset-name={name}"
    return [
        shlex.join(["xpk", "workload", "list", *where, f"--filter-by-job={name}"]),
        shlex.join(["kubectl", "logs", "--follow", "--prefix", "--max-log-requests=64", logs]),
        shlex.join(["xpk", "workload", "delete", *where, f"--workload={name}"]),
    ]


def _where(options: Options) -> list[str]:
    return [
        f"--cluster={options.cluster}",
        f"--project={options.project}",
        f"--zone={options.zone}",
    ]

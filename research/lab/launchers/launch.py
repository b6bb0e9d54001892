"""Dispatches `--on=TARGET` to the launcher of the target."""

import shlex

from research.errors import UserError
from research.lab.launchers import gke, slurm, tpu_vm
from research.lab.launchers.request import Request

LOCAL = "local"
TARGETS = {"slurm": slurm.launch, "tpu_vm": tpu_vm.launch, "gke": gke.launch}


def check(on: str, options: dict[str, str]) -> None:
    """Raises UserError for options without a target."""
    if on == LOCAL and options:
        raise UserError(
            f"--on.{next(iter(options))} needs --on=…, one of {', '.join(TARGETS)}: a local run "
            "has no such option"
        )


def launch(request: Request, on: str, options: dict[str, str], dry_run: bool) -> int:
    """Runs a request elsewhere, or prints the commands that would; returns the exit code."""
    if on == LOCAL:  # callers ask for it only with dry_run
        print(shlex.join(request.command(request.config)))
        return 0
    return TARGETS[on](request, options, dry_run)

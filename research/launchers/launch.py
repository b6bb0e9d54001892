"""`--on=TARGET`: where a verb runs."""

from research.errors import UserError, nearest
from research.launchers import gke, programs, slurm, tpu_vm
from research.launchers.request import Request

LOCAL = "local"
TARGETS = {"slurm": slurm.launch, "tpu_vm": tpu_vm.launch, "gke": gke.launch}


def check(on: str, options: dict[str, str]) -> dict[str, str]:
    """`options` by their own names: {"on.zone": …} -> {"zone": …}.

    Raises UserError for an unknown target, and for options of none.
    """
    if on != LOCAL and on not in TARGETS:
        raise UserError(f"--on={on} is not known{nearest(on, (LOCAL, *TARGETS))}")
    if on == LOCAL and options:
        raise UserError(
            f"--{next(iter(options))} needs --on=…, one of {', '.join(TARGETS)}: here there is "
            "nothing to choose"
        )
    return {name.removeprefix("on."): value for name, value in options.items()}


def launch(request: Request, on: str, options: dict[str, str], dry_run: bool) -> int:
    """Runs a request elsewhere, or prints the commands that would; returns the exit code."""
    if on == LOCAL:  # asked for with dry_run alone
        print(programs.line(request.command(request.config)))
        return 0
    return TARGETS[on](request, options, dry_run)

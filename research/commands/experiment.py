"""`launch.py experiment`."""

from research import bucket, lock
from research.errors import UserError
from research.experiments import (
    checks,
    estimate,
    experiment,
    lanes,
    runner,
    sheets,
    written,
)
from research.launchers import launch
from research.launchers.request import Request
from research.verbs import whole


def run(
    config: str,
    only: str = "",
    parallel: str = "",
    devices: str = "",
    workdir: str = "",
    dry_run: str = "",
    rerun_changed: str = "",
    on: str = launch.LOCAL,
    **options: str,
) -> int:
    """Makes the runs here or elsewhere, prints the table and writes it to WORKDIR/report.md."""
    chosen = launch.check(on, options)
    loaded = experiment.load(config)
    folder = bucket.path(workdir or f"runs/{loaded.name}")
    at_a_time = whole("parallel", parallel, 1) if parallel else 0
    each = whole("devices", devices, 1) if devices else 0
    if on != launch.LOCAL:
        here = {"parallel": parallel, "devices": devices, "rerun_changed": rerun_changed}
        for flag in filter(here.get, here):
            raise UserError(f"--{flag} is for this machine; with --on={on} leave it out")
        planned = runner.choose(experiment.jobs(loaded, folder), only)
        request = Request(
            "experiment",
            config,
            str(folder),
            (f"--only={only}",) if only else (),
            tuple(job.config for job in planned),
            made=tuple(str(job.workdir) for job in planned),
            only=only,
        )
        return launch.launch(request, on, chosen, bool(dry_run))
    planned = experiment.jobs(loaded, folder)
    wanted = runner.choose(planned, only)
    checks.check_finished(planned)
    decision = runner.decide(planned, only, bool(rerun_changed))
    if decision.waiting:
        checks.check(loaded, decision.waiting, planned, each or lanes.machine()[1])
    if dry_run:
        many = lanes.count(at_a_time, each)
        sheet = estimate.table(wanted, planned, decision.state, many, each)
        print(f"{folder}\n\n{sheets.markdown(sheet)}\n\n{sheet.note}")
        return 0
    with lock.alone(folder, lock.COMMAND):
        outcome = runner.run(
            loaded,
            config,
            folder,
            only,
            at_a_time,
            rerun_changed=bool(rerun_changed),
            devices=each,
        )
        if outcome.interrupted:
            print(f"\nstopped; {len(outcome.left)} runs are left. The same command goes on.")
            return 130
        if outcome.failed:
            print(
                f"\nfailed: {', '.join(outcome.failed)}"
                + (f"; not made: {', '.join(outcome.left)}" if outcome.left else "")
                + ". The same command makes what is left."
            )
        written.write(loaded, outcome.jobs, folder)
        return 1 if outcome.failed else 0

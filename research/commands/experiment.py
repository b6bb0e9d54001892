"""`launch.py experiment`."""

from research import bucket, lock
from research.errors import UserError
from research.lab import checks, estimate, experiment
from research.lab.launchers import launch
from research.lab.launchers.request import Request
from research.lab.reports import sheets, written
from research.lab.workers import lanes, runner


def run(
    config: str,
    options: dict[str, str],
    only: str = "",
    parallel: int = 0,
    devices: int = 0,
    workdir: str = "",
    dry_run: bool = False,
    rerun_changed: bool = False,
    on: str = launch.LOCAL,
) -> int:
    """Makes the runs, here or elsewhere; prints the table and writes it to WORKDIR/report.md."""
    launch.check(on, options)
    loaded = experiment.load(config)
    folder = bucket.path(workdir or f"runs/{loaded.name}")
    if on != launch.LOCAL:
        here = {"parallel": parallel, "devices": devices, "rerun_changed": rerun_changed}
        for flag in filter(here.get, here):
            raise UserError(f"--{flag} is for this machine; leave it out with --on={on}")
        planned = runner.choose(experiment.jobs(loaded, folder), only)
        request = Request(
            "experiment",
            config,
            str(folder),
            (f"--only={only}",) if only else (),
            tuple(job.config for job in planned),
            workdirs=tuple(str(job.workdir) for job in planned),
            only=only,
        )
        return launch.launch(request, on, options, dry_run)
    planned = experiment.jobs(loaded, folder)
    wanted = runner.choose(planned, only)
    checks.check_finished(planned)
    decision = runner.decide(planned, only, rerun_changed)
    if decision.waiting:
        checks.check(loaded, decision.waiting, planned, devices or lanes.machine()[1])
    if dry_run:
        many = lanes.count(parallel, devices)
        sheet = estimate.table(wanted, planned, decision.state, many, devices)
        print(f"{folder}\n\n{sheets.markdown(sheet)}\n\n{sheet.note}")
        return 0
    with lock.alone(folder, lock.COMMAND):
        outcome = runner.run(
            loaded,
            config,
            folder,
            only,
            parallel,
            rerun_changed=rerun_changed,
            devices=devices,
        )
        if outcome.interrupted:
            print(f"\nstopped; {len(outcome.left)} runs are left. The same command resumes them.")
            return 130
        if outcome.failed:
            print(
                f"\nfailed: {', '.join(outcome.failed)}"
                + (f"; not run: {', '.join(outcome.left)}" if outcome.left else "")
                + ". The same command makes the rest."
            )
        written.write_experiment(loaded, outcome.jobs, folder)
        return 1 if outcome.failed else 0

"""`launch.py experiment`."""

from pathlib import Path

from research import bucket, lock
from research.commands.numbers import whole
from research.errors import UserError
from research.experiments import (
    checks,
    estimate,
    experiment,
    lanes,
    page,
    report,
    runner,
    sheets,
)
from research.experiments.experiment import Experiment, Job
from research.experiments.job import DONE
from research.launchers import launch
from research.launchers.request import Request


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
        _write(loaded, outcome.jobs, folder)
        return 1 if outcome.failed else 0


def write_report(config: str, workdir: str) -> int:
    """The report of the runs that are done; none is made. 1 where some are not, which are named."""
    loaded, folder = experiment.load(config), bucket.path(workdir)
    planned = experiment.jobs(loaded, folder)
    _write(loaded, planned, folder)
    left = [job.workdir.name for job in planned if not (job.workdir / DONE).exists()]
    if left:
        print(f"\nnot done: {', '.join(left)}. The same launch makes what is left.")
    return 1 if left else 0


def _write(loaded: Experiment, planned: list[Job], folder: Path) -> None:
    """Writes and prints the report of the runs that are done, if any is."""
    done = [job for job in planned if (job.workdir / DONE).exists()]
    if done:
        made = report.make(loaded, done, folder, left=len(planned) - len(done))
        files = report.write(made, folder, page.render(made))
        print(f"\n{report.markdown(made)}\nwritten to {', '.join(map(str, files))}")

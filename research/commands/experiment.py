"""`launch.py experiment`."""

from pathlib import Path

from research.commands.numbers import whole
from research.experiments import experiment, report, runner


def run(
    config: str, only: str = "", parallel: str = "", workdir: str = "", dry_run: str = ""
) -> int:
    """Makes the runs, prints the table and writes it to WORKDIR/report.md."""
    loaded = experiment.load(config)
    folder = Path(workdir or f"runs/{loaded.name}")
    at_a_time = whole("parallel", parallel, 1) if parallel else 0
    if dry_run:
        for job in runner.choose(experiment.jobs(loaded, folder), only):
            start = f"  from {job.config.init_from}" if job.config.init_from else ""
            print(f"{job.workdir}{start}")
        return 0
    outcome = runner.run(loaded, config, folder, only, at_a_time)
    if outcome.interrupted:
        print(f"\nstopped; {len(outcome.left)} runs are left. The same command goes on.")
        return 130
    if outcome.failed:
        print(
            f"\nfailed: {', '.join(outcome.failed)}"
            + (f"; not made: {', '.join(outcome.left)}" if outcome.left else "")
            + ". The same command makes what is left."
        )
        return 1
    if only:
        return 0
    text = report.make(loaded, outcome.jobs, folder)
    (folder / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {folder / 'report.md'}")
    return 0

"""`launch.py experiment`."""

from pathlib import Path

from research.experiments import experiment, report, runner
from research.training import loop


def run(config: str, only: str = "", workdir: str = "", dry_run: str = "") -> int:
    """Makes the runs, prints the table and writes it to WORKDIR/report.md."""
    loaded = experiment.load(config)
    folder = Path(workdir or f"runs/{loaded.name}")
    if dry_run:
        for job in experiment.jobs(loaded, folder):
            start = f"  from {job.config.init_from}" if job.config.init_from else ""
            print(f"{job.workdir}{start}")
        return 0
    try:
        planned = runner.run(loaded, folder, only)
    except loop.Interrupted as stopped:
        print(f"\n{stopped}; its checkpoint is saved. The same command goes on.")
        return 130
    if only:
        return 0
    text = report.make(loaded, planned, folder)
    (folder / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {folder / 'report.md'}")
    return 0

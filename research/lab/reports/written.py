"""Reports written into a folder, and printed."""

from pathlib import Path

from research import bucket
from research.lab import experiment
from research.lab.experiment import Experiment, Job
from research.lab.record import DONE
from research.lab.reports import page, report, sheets
from research.lab.reports.report import Report


def write(made: Report, folder: Path) -> list[Path]:
    """Writes report.md, the page, and each table as a .csv and a .tex; returns the files."""
    files = {"report.md": report.markdown(made), "report.html": page.render(made)}
    for sheet in (*made.sheets, *made.details):
        files[f"{sheet.name}.csv"] = sheets.text_csv(sheet)
    for sheet in made.sheets:
        files[f"{sheet.name}.tex"] = sheets.latex(sheet)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        bucket.write_whole(folder / name, text)
    return [folder / name for name in files]


def write_experiment(loaded: Experiment, planned: list[Job], folder: Path) -> list[str]:
    """Writes and prints the report of the runs that are done, if any is; returns the names of the
    others."""
    done = [job for job in planned if (job.workdir / DONE).exists()]
    if done:
        made = report.of_experiment(loaded, done, folder, left=len(planned) - len(done))
        files = write(made, folder)
        print(f"\n{report.markdown(made)}\nwritten to {', '.join(map(str, files))}")
    return [job.workdir.name for job in planned if job not in done]


def write_report(config: str, workdir: str) -> int:
    """The report of the runs that are done; none is made. 1 where some are not, which are named."""
    loaded, folder = experiment.load(config), bucket.path(workdir)
    left = write_experiment(loaded, experiment.jobs(loaded, folder), folder)
    if left:
        print(f"\nnot done: {', '.join(left)}. The same launch makes what is left.")
    return 1 if left else 0

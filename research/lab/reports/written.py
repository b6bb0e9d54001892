"""Writes reports into a folder and prints them."""

from pathlib import Path

from research import bucket
from research.lab import experiment
from research.lab.experiment import Experiment, Job
from research.lab.record import DONE
from research.lab.reports import page, report, sheets
from research.lab.reports.report import Report


def write(content: Report, folder: Path) -> list[Path]:
    """Writes report.md, report.html, and each table as .csv and .tex; returns the files."""
    files = {"report.md": report.markdown(content), "report.html": page.render(content)}
    for sheet in (*content.sheets, *content.details):
        files[f"{sheet.name}.csv"] = sheets.text_csv(sheet)
    for sheet in content.sheets:
        files[f"{sheet.name}.tex"] = sheets.latex(sheet)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        bucket.write_whole(folder / name, text)
    return [folder / name for name in files]


def write_experiment(loaded: Experiment, planned: list[Job], folder: Path) -> list[str]:
    """Writes and prints the report of the finished runs, if any; returns the names of the other
    runs."""
    done = [job for job in planned if (job.workdir / DONE).exists()]
    if done:
        content = report.of_experiment(loaded, done, folder, left=len(planned) - len(done))
        files = write(content, folder)
        print(f"\n{report.markdown(content)}\nwritten to {', '.join(map(str, files))}")
    return [job.workdir.name for job in planned if job not in done]


def write_report(config: str, workdir: str) -> int:
    """Writes the report of the finished runs, and starts none. Returns 1, and names the others, if
    not all are finished."""
    loaded, folder = experiment.load(config), bucket.path(workdir)
    left = write_experiment(loaded, experiment.jobs(loaded, folder), folder)
    if left:
        print(f"\nnot done: {', '.join(left)}. Repeat the launch to run them.")
    return 1 if left else 0

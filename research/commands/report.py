"""`launch.py report`."""

import re

from research import bucket
from research.lab.reports import runs as run_reports
from research.lab.reports import sheets, written
from research.monitoring.starts import CONFIG

FOLDER = "runs/report"
PUT_ASIDE = re.compile(r"\.before-\d+$")  # replaced runs of an experiment


def run(runs: list[str], output: str = FOLDER, price: float = 0.0) -> int:
    """Writes tables, curves and differences of runs as Markdown, CSV, LaTeX and a page."""
    folders = [folder for run in runs for folder in _runs_of(run.rstrip("/"))]
    report = run_reports.of_folders(folders, price)
    folder = bucket.path(output)
    files = written.write(report, folder)
    for sheet in report.sheets:
        print(f"{sheet.title}\n\n{sheets.markdown(sheet)}\n")
    print(f"written to {', '.join(map(str, files))}")
    return 0


def _runs_of(folder: str) -> list[str]:
    """The run itself, or the runs in a folder, sorted by name; the folder if it has none."""
    path = bucket.path(folder)
    if (path / CONFIG).exists() or not path.is_dir():
        return [folder]
    inside = sorted(str(file.parent) for file in path.glob(f"*/{CONFIG}"))
    return [run for run in inside if not PUT_ASIDE.search(run)] or [folder]

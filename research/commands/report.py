"""`launch.py report`."""

import re

from research import bucket
from research.lab.reports import runs as made_runs
from research.lab.reports import sheets, written
from research.monitoring.starts import CONFIG

FOLDER = "runs/report"
PUT_ASIDE = re.compile(r"\.before-\d+$")  # what an experiment has made again since


def run(runs: list[str], output: str = FOLDER, price: float = 0.0) -> int:
    """Writes tables, curves and differences of runs to a folder: Markdown, CSV, LaTeX, a page."""
    folders = [folder for run in runs for folder in _runs_of(run.rstrip("/"))]
    made = made_runs.of_folders(folders, price)
    folder = bucket.path(output)
    files = written.write(made, folder)
    for sheet in made.sheets:
        print(f"{sheet.title}\n\n{sheets.markdown(sheet)}\n")
    print(f"written to {', '.join(map(str, files))}")
    return 0


def _runs_of(folder: str) -> list[str]:
    """A run; of a folder that is none the runs in it by their names, where it has any."""
    path = bucket.path(folder)
    if (path / CONFIG).exists() or not path.is_dir():
        return [folder]
    found = sorted(str(file.parent) for file in path.glob(f"*/{CONFIG}"))
    return [run for run in found if not PUT_ASIDE.search(run)] or [folder]

"""`launch.py report`."""

from research import bucket
from research.experiments import page, sheets
from research.experiments import report as reports
from research.experiments import runs as made_runs

FOLDER = "report"


def run(runs: list[str], output: str = FOLDER) -> int:
    """Writes tables, curves and differences of runs to a folder: Markdown, CSV, LaTeX, a page."""
    made, curves = made_runs.report([run.rstrip("/") for run in runs])
    folder = bucket.path(output)
    files = reports.write(made, folder, page.render(made, curves))
    print(f"{sheets.markdown(made.sheets[0])}\n")
    print(f"written to {', '.join(map(str, files))}")
    return 0

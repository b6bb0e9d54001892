"""`launch.py report`."""

from research import bucket
from research.commands.numbers import number
from research.experiments import page, sheets
from research.experiments import report as reports
from research.experiments import runs as made_runs

FOLDER = "report"


def run(runs: list[str], output: str = FOLDER, price: str = "") -> int:
    """Writes tables, curves and differences of runs to a folder: Markdown, CSV, LaTeX, a page."""
    worth = number("price", price) if price else 0.0
    made, curves = made_runs.of_folders([run.rstrip("/") for run in runs], worth)
    folder = bucket.path(output)
    files = reports.write(made, folder, page.render(made, curves))
    for sheet in made.sheets:
        print(f"{sheet.title}\n\n{sheets.markdown(sheet)}\n")
    print(f"written to {', '.join(map(str, files))}")
    return 0

"""One page with everything of a report, which opens from the file system without a network."""

import math
from importlib import resources
from typing import Any

import jinja2
from plotly import offline

from research.lab.reports.report import Report, measured
from research.lab.reports.sheets import Sheet
from research.run.best import LOWER_IS_BETTER


def render(report: Report) -> str:
    """The page as HTML; plotly's code (4.8 MB) is in it where something is drawn."""
    files = resources.files(__package__)
    template = (files / "page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    forests = {sheet.name: _forest(sheet) for sheet in report.sheets}
    panels = [panel for found in forests.values() for panel in found]
    stages = report.curves["stages"]
    drawn = bool(stages or panels)
    return environment.from_string(template).render(
        title=report.title,
        sheets=report.sheets,
        details=report.details,
        texts={heading: list(map(_line, text.splitlines())) for heading, text in _texts(report)},
        notes=report.notes,
        curves=report.curves,
        banded=any(variant["runs"] > 1 for stage in stages for variant in stage["variants"]),
        levelled=any(stage["levels"] for stage in stages),
        forests=forests,
        panels=panels,
        style=(files / "page.css").read_text(encoding="utf-8"),
        script=(files / "page.js").read_text(encoding="utf-8"),
        plots=(files / "plots.js").read_text(encoding="utf-8") if drawn else "",
        plotly=offline.get_plotlyjs() if drawn else "",
    )


def _forest(sheet: Sheet) -> list[dict[str, Any]]:
    """Of a table of differences a panel for each column; of another table none.

    A panel is {"title", "lower_is_better", "method", "level": the difference of that simple method,
    "rows": lines of the table's data}.
    """
    header, *lines = sheet.data or [[]]
    if "examples_low" not in header:
        return []
    panels: dict[str, dict[str, Any]] = {}
    for line in lines:
        row = {key: _finite(value) for key, value in zip(header, line, strict=True)}
        lower = row["metric"].endswith(LOWER_IS_BETTER)
        panel = {"title": measured(row["column"], row["metric"]), "lower_is_better": lower}
        panel |= {"method": row["method"], "level": row["method_difference"], "rows": []}
        panels.setdefault(row["column"], panel)["rows"].append(row)
    return list(panels.values())


def _finite(value: Any) -> Any:
    """None for a number that is not: JSON has no name for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _texts(report: Report) -> list[tuple[str, str]]:
    return [(heading, text) for heading, text in report.texts.items() if text]


def _line(text: str) -> dict[str, Any]:
    """A line of a Markdown list: how deep it is, the name it begins with in bold, and the rest."""
    level = (len(text) - len(text.lstrip())) // 2
    rest = text.strip().removeprefix("- ")
    name = ""
    if rest.startswith("**"):
        name, _, rest = rest.removeprefix("**").partition("**")
    return {"level": level, "name": name, "text": rest.strip()}

"""Renders a report as one HTML page that opens from the file system without a network."""

import math
from importlib import resources
from typing import Any

import jinja2
from plotly import offline

from research.lab.reports.report import Report, measured
from research.lab.reports.sheets import Sheet
from research.run.best import LOWER_IS_BETTER


def render(report: Report) -> str:
    """Renders the page; it contains plotly's code (4.8 MB) only if it has plots."""
    files = resources.files(__package__)
    template = (files / "page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    forests = {sheet.name: _forest(sheet) for sheet in report.sheets}
    panels = [panel for forest in forests.values() for panel in forest]
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
    """Returns a panel for each column of a table of differences, and none for other tables.

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
    """Replaces infinity and NaN, which JSON lacks, by None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _texts(report: Report) -> list[tuple[str, str]]:
    return [(heading, text) for heading, text in report.texts.items() if text]


def _line(text: str) -> dict[str, Any]:
    """Splits a line of a Markdown list into its depth, its bold name at the start, and the rest."""
    level = (len(text) - len(text.lstrip())) // 2
    rest = text.strip().removeprefix("- ")
    name = ""
    if rest.startswith("**"):
        name, _, rest = rest.removeprefix("**").partition("**")
    return {"level": level, "name": name, "text": rest.strip()}

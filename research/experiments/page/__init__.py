"""One page with everything of a report, which opens from the file system without a network."""

from importlib import resources
from typing import Any

import jinja2
from plotly import offline

from research.experiments.report import Report


def render(report: Report, curves: dict[str, Any]) -> str:
    """The page as HTML; plotly's code (4.6 MB) is in it where there are curves.

    curves: {"runs": what `curves.of_run` makes, "metrics": names, the first one is drawn first}.
    """
    files = resources.files(__package__)
    template = (files / "page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        title=report.title,
        sheets=report.sheets,
        details=report.details,
        texts={heading: list(map(_line, text.splitlines())) for heading, text in _texts(report)},
        notes=report.notes,
        curves=curves,
        style=(files / "page.css").read_text(encoding="utf-8"),
        script=(files / "page.js").read_text(encoding="utf-8"),
        plotly=offline.get_plotlyjs() if curves["runs"] else "",
    )


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

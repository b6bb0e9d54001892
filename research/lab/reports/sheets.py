"""Tables of text, as Markdown, LaTeX and CSV."""

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any

import tabulate

LATEX = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$"}


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table whose cells are formatted text.

    note: a remark for readers; name: name of its files.
    data: the same for programs: a header, and lines of values in full precision (None: no value);
        if empty, programs get the cells.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    name: str = "table"
    data: Sequence[Sequence[Any]] = ()


def markdown(sheet: Sheet) -> str:
    """Renders the table alone as Markdown, with aligned columns."""
    header, *rows = (
        [cell.replace("|", r"\|") for cell in row] for row in (sheet.header, *sheet.rows)
    )
    return tabulate.tabulate(rows, header, "github", disable_numparse=True)


def text_csv(sheet: Sheet) -> str:
    """Renders the table's data and header as CSV, for pandas, R or a spreadsheet."""
    out = io.StringIO()
    lines = sheet.data or [sheet.header, *sheet.rows]
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def latex(sheet: Sheet) -> str:
    """Renders the table for LaTeX with the package booktabs."""
    text = tabulate.tabulate(sheet.rows, sheet.header, "latex_booktabs", disable_numparse=True)
    # LaTeX reads a [ or * after a line break as its argument; an empty group separates them.
    text = re.sub(r"^(\s*)([\[*])", r"\1{}\2", text, flags=re.MULTILINE)
    for character, command in LATEX.items():
        text = text.replace(character, command)
    return text + "\n"


def number(value: float) -> str:
    """Formats a number with three decimals, or with four digits from 10 on."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 10 else f"{value:.3f}"


def signed(value: float) -> str:
    """Formats like `number`, always with a sign."""
    text = number(abs(value))
    return f"{'-' if value < 0 and float(text.replace(',', '')) else '+'}{text}"


def spread(values: Sequence[float], mean: float, deviation: float | None) -> str:
    """Formats a mean over seeds, with deviation and number of seeds if there are several."""
    if deviation is None:
        return number(mean)
    return f"{number(mean)} ± {number(deviation)} ({len(values)})"

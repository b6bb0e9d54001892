"""Tables of text, as Markdown and LaTeX, and what programs read of them, as CSV."""

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
    """A table to be shown: every cell is a text already.

    note: what its reader has to know; name: of its files.
    data: the same for programs: a header, and lines of values in full (None: no value); where it is
        empty, they get the cells.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    name: str = "table"
    data: Sequence[Sequence[Any]] = ()


def markdown(sheet: Sheet) -> str:
    """The table alone, its columns aligned."""
    header, *rows = (
        [cell.replace("|", r"\|") for cell in row] for row in (sheet.header, *sheet.rows)
    )
    return tabulate.tabulate(rows, header, "github", disable_numparse=True)


def text_csv(sheet: Sheet) -> str:
    """The table's data with its header, as pandas, R or a spreadsheet reads it."""
    out = io.StringIO()
    lines = sheet.data or [sheet.header, *sheet.rows]
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def latex(sheet: Sheet) -> str:
    """The table for a document with the package booktabs."""
    made = tabulate.tabulate(sheet.rows, sheet.header, "latex_booktabs", disable_numparse=True)
    # A line break takes a [ or a * after it for its own argument; an empty group keeps them apart.
    made = re.sub(r"^(\s*)([\[*])", r"\1{}\2", made, flags=re.MULTILINE)
    for character, command in LATEX.items():
        made = made.replace(character, command)
    return made + "\n"


def number(value: float) -> str:
    """Three places after the point, or four digits of a large number."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 10 else f"{value:.3f}"


def signed(value: float) -> str:
    """`number` with its sign."""
    text = number(abs(value))
    return f"{'-' if value < 0 and float(text.replace(',', '')) else '+'}{text}"


def spread(values: Sequence[float], mean: float, deviation: float | None) -> str:
    """A mean over seeds, with its deviation and their number where there are several."""
    if deviation is None:
        return number(mean)
    return f"{number(mean)} ± {number(deviation)} ({len(values)})"

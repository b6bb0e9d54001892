"""Formats of files by name: the values of a source's `format`.

A format of lines turns a file into rows. A format of rows converts the rows of a .json, .jsonl,
.csv or .tsv to rows with our field names for a kind of example (`kinds.KINDS`). Rows keep their own
fields beside ours, so that a source's `fields` may still name them; unusable rows have `left_out`.
Texts keep the line ends of the file here, so that offsets in them (answers, spans) are right;
`row.one_line_end` comes later.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from research.data import chats, conll, glue, json_rows, spans, squad, tables, texts
from research.data.lines import Lines
from research.data.row import Row, Unusable
from research.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of examples.

    Attributes:
      what: its description, for messages.
      lines: turns a file's lines into rows; or
      rows: functions that convert a row of a file, each applied to the rows of the one before it.
        They raise Unusable for a row that is left out.
      recognise: whether a file has this format, by its first line that is not blank, or by the
        fields of its first row; without it, only the name (or the ending) selects the format.
      kinds: the kinds of examples for which its rows are recognised; empty: all.
    """

    what: str
    lines: Callable[[Lines], Iterator[Row]] | None = None
    rows: tuple[Callable[[Row], Iterator[Row]], ...] = ()
    recognise: Callable[[Any], bool] | None = None
    kinds: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "jsonl": Format("JSON, one object a line", json_rows.line_rows),
    "json": Format("JSON", json_rows.file_rows),
    "csv": Format("a table", tables.csv_rows),
    "tsv": Format("a table with tabs", tables.tsv_rows),
    "with_header": Format("a table whose first line is its header", tables.headed_rows),
    "without_header": Format("a table without a header", tables.headless_rows),
    "conll": Format("CoNLL columns", conll.rows, recognise=conll.starts),
    "text": Format("text", texts.rows),
    "squad": Format(
        "SQuAD's nested form",
        rows=(squad.paragraphs, squad.questions, squad.examples),
        recognise=squad.is_nested,
    ),
    "spans": Format(
        "entities as spans of a text",
        rows=(spans.texts, spans.tagged),
        recognise=spans.starts,
        kinds=("tokens",),
    ),
    "chat": Format(
        "conversations", rows=(chats.turns,), recognise=chats.has_turns, kinds=("chat",)
    ),
    "instructions": Format(
        "instructions and answers",
        rows=(chats.instructions,),
        recognise=chats.is_instruction,
        kinds=("chat",),
    ),
    "glue": Format("a table of GLUE", glue.rows, recognise=glue.starts),
} | {
    f"glue/{task}": Format(f"GLUE's {task}", functools.partial(glue.rows, labels=labels))
    for task, labels in glue.LABELS.items()
}
# The possible formats of each ending: the first that recognises the file, or the last.
ENDINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), ("jsonl",)),
    ".json": ("json",),
    ".csv": ("csv",),
    ".tsv": ("glue", "tsv"),
    ".txt": ("glue", "conll", "text"),
    **dict.fromkeys((".conll", ".conllu", ".iob", ".bio"), ("conll",)),
}


def check(name: str) -> None:
    """Raises UserError for the name of an unknown format."""
    if name and name not in FORMATS:
        raise UserError(f"no format named {name!r}{nearest(name, FORMATS)}")


def is_of_lines(name: str) -> bool:
    """Returns whether a format reads files whatever their ending."""
    return bool(name) and FORMATS[name].lines is not None


def rows(lines: Lines, ending: str, name: str = "", kind: str = "") -> Iterator[Row]:
    """Yields the rows of a file with our field names, by the named format or a recognised one.

    kind: the kind of example to read; formats of certain kinds are recognised for these only.
    """
    if is_of_lines(name):
        reader, name = name, ""
    else:
        reader = _reader(lines, ENDINGS[ending])
    rows = FORMATS[reader].lines(lines)
    first = next(rows, None)
    if first is None:
        return
    of_rows = {n: f for n, f in FORMATS.items() if f.rows and kind in (f.kinds or (kind,))}
    name = name or next((n for n, f in of_rows.items() if f.recognise(first.fields)), "")
    rows = itertools.chain([first], rows)
    if name:
        for convert in FORMATS[name].rows:
            rows = _converted(convert, rows, lines.malformed)
        rows = (r._replace(read_as=FORMATS[name].what) for r in rows)
    yield from rows


def _reader(lines: Lines, names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return names[0]
    first = next((line for _, line in lines.strict() if line.strip()), "")
    recognised = (n for n in names if FORMATS[n].recognise and FORMATS[n].recognise(first))
    return next(recognised, names[-1])


def _converted(
    convert: Callable[[Row], Iterator[Row]],
    rows: Iterator[Row],
    malformed: Callable[[UserError], None],
) -> Iterator[Row]:
    """Yields `convert` of each row; calls `malformed` with the error of a row it cannot read."""
    for row in rows:
        if row.left_out:
            yield row
            continue
        try:
            yield from list(convert(row))
        except Unusable as reason:
            yield row._replace(left_out=str(reason))
        except UserError as error:
            malformed(error)

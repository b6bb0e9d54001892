"""The ways in which people keep their examples, by name: what `format` of a source may be.

A format of lines makes rows of a file. A format of rows takes those of a .json, .jsonl, .csv or
.tsv as they stand, and yields rows with our field names for a kind of example (`kinds.KINDS`).
These keep their own fields beside ours, so that `fields` of a source may still name one; what
cannot be used is yielded with `left_out`. Texts still have the line ends of the file, so that
places in them (answers, spans) count as they should; `row.one_line_end` comes after this.
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
    """One way to keep examples.

    Attributes:
      what: what it is, for messages.
      lines: makes rows of a file's lines; or
      rows: make our rows of a row of a file, one after the other: each of a row of the one before
        it. They raise Unusable for a row that is left out.
      recognise: whether a file is in this format, by its first line that is not blank, or by the
        fields of its first row; without it, by name only (or by the ending alone).
      kinds: of example for which its rows are recognised; empty: all.
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
# For each ending the formats that it may mean: the first that recognises the file, or the last.
ENDINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), ("jsonl",)),
    ".json": ("json",),
    ".csv": ("csv",),
    ".tsv": ("glue", "tsv"),
    ".txt": ("glue", "conll", "text"),
    **dict.fromkeys((".conll", ".conllu", ".iob", ".bio"), ("conll",)),
}


def check(name: str) -> None:
    """Raises UserError for a name that is not a format's."""
    if name and name not in FORMATS:
        raise UserError(f"no format named {name!r}{nearest(name, FORMATS)}")


def is_of_lines(name: str) -> bool:
    """Whether a format reads files whatever their ending is."""
    return bool(name) and FORMATS[name].lines is not None


def rows(lines: Lines, ending: str, name: str = "", kind: str = "") -> Iterator[Row]:
    """The rows of a file in our field names, by the format named or by what the file looks like.

    kind: of example that is read from it; what is of one kind alone is not looked for without it.
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
    """`convert` of each row; of one that it cannot read `malformed` is told."""
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

"""Reads rows from tables: the records of a .csv or .tsv; the first line names the columns."""

import collections
import csv
import itertools
import re
import sys
from collections.abc import Iterator

from research.data.kinds import KINDS
from research.data.lines import Lines
from research.data.row import Row
from research.errors import UserError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LOOKED_AT = 1000  # lines that decide the separator and whether there is a header
# A first line with one of these names is a header, whatever the rows below contain.
OURS = {name for names in KINDS.values() for name in names}


def csv_rows(lines: Lines) -> Iterator[Row]:
    """Yields the records of a .csv and detects its separator. Raises UserError if the first line is
    a row, not a header.
    """
    return _rows(lines, _separator(lines), quoted=True, doubt=True)


def tsv_rows(lines: Lines) -> Iterator[Row]:
    """Yields the records of a .tsv, with or without quoted cells; raises as `csv_rows`."""
    return _rows(lines, "\t", _quotes(lines), doubt=True)


def headed_rows(lines: Lines) -> Iterator[Row]:
    """Yields the records of a table by its ending; the first line is surely the header."""
    return _rows(lines, *_by_ending(lines), doubt=False)


def headless_rows(lines: Lines) -> Iterator[Row]:
    """Yields the records of a table without a header; columns are "column 1", "column 2", …"""
    separator, quoted = _by_ending(lines)
    width = len(next((record for _, record in _records(lines, separator, quoted)), []))
    return _rows(lines, separator, quoted, doubt=False, header=[""] * width)


def _by_ending(lines: Lines) -> tuple[str, bool]:
    if ".tsv" in lines.path.suffixes:
        return "\t", _quotes(lines)
    return _separator(lines), True


def unquoted_records(lines: Lines) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, cells) of a table with tabs in which quotation marks are ordinary text."""
    for number, line in lines.strict():
        if line.strip("\n"):
            yield number, line.removesuffix("\n").split("\t")


def _rows(
    lines: Lines, separator: str, quoted: bool, doubt: bool, header: list[str] | None = None
) -> Iterator[Row]:
    records = _records(lines, separator, quoted)
    first, named_by = [""], "without a header"
    if header is None:
        number, first = next(records, (1, []))
        header = [name.strip() for name in first]
        named_by = f"line {number} is taken for its header"
        if doubt:
            _check_header(lines, number, first, _records(lines, separator, quoted, to=LOOKED_AT))
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        raise lines.error(number, f"a column name occurs twice: {', '.join(named)}")
    names = [name or f"column {place}" for place, name in enumerate(header, 1)]
    read_as = f"a table with {SEPARATORS[separator]}, {named_by}"
    if separator == "\t" and not quoted:
        read_as += "; quotation marks are part of the text"
    for number, record in records:
        lacking = len(record) < len(names) and any(header[len(record) :])
        if lacking or any(record[len(names) :]):
            fault = f"{len(record)} fields, but the header has {len(names)}: {', '.join(names)}"
            lines.malformed(lines.error(number, fault))
            continue
        left_out = "a record of empty cells" if not any(record) else ""
        left_out = "the header again" if record == first else left_out
        fields = dict(itertools.zip_longest(names, record[: len(names)], fillvalue=""))
        yield Row(lines.where(number), lines.id(number), fields, left_out, read_as)


def _check_header(
    lines: Lines, number: int, first: list[str], records: Iterator[tuple[int, list[str]]]
) -> None:
    """Raises UserError if a cell of the first line occurs again in its column.

    Labels recur, headers do not, unless the whole line is repeated.
    """
    if OURS & {name.strip() for name in first}:
        return
    for other, record in records:
        pairs = enumerate(zip(first, record, strict=False), 1)
        same = [place for place, (name, cell) in pairs if name.strip() and name == cell]
        if same and record != first:
            named = ', "…": '.join(f'"column {place}"' for place in range(1, len(first) + 1))
            raise UserError(
                f"{lines.where(number)} is taken for the header, but {first[same[0] - 1]!r} is "
                f"also in that column of line {other}, so it seems a row. If so, give the file "
                f'a header, or the source format="without_header" and fields={{"…": {named}}}; '
                'if it is the header, format="with_header"'
            )


def _records(
    lines: Lines, separator: str, quoted: bool, to: int | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yields (first line, cells) of each record that is not blank, in the first `to` lines.

    If a record cannot be read, only its first line is malformed: lines that an unclosed quotation
    swallowed are read again, one by one. With `to`, reading ends there.
    """
    if not quoted:
        yield from itertools.islice(unquoted_records(lines), to)
        return
    csv.field_size_limit(sys.maxsize)  # a document may well pass the default of 131,072 characters
    source, again = itertools.islice(lines.strict(), to), collections.deque()
    taken: list[tuple[int, str]] = []

    def feed() -> Iterator[str]:
        while line := again.popleft() if again else next(source, None):
            taken.append(line)
            yield line[1]

    reader, header = csv.reader(feed(), delimiter=separator, strict=True), True
    while True:
        taken.clear()
        try:
            record = next(reader, None)
        except csv.Error as error:
            if to is not None:
                return
            fault = lines.error(taken[0][0], _not_csv(taken, error))
            if header:  # the next line would be taken for it
                raise fault from error
            lines.malformed(fault)
            again.extendleft(reversed(taken[1:]))
            reader = csv.reader(feed(), delimiter=separator, strict=True)
            continue
        if record is None:
            return
        if record and not (header and re.fullmatch("sep=.\n?", taken[0][1])):  # Excel's hint
            header = False
            yield taken[0][0], record


def _not_csv(taken: list[tuple[int, str]], error: csv.Error) -> str:
    if len(taken) == 1:
        return f"not CSV ({error})"
    (first, _), (last, _) = taken[1], taken[-1]
    swallowed = f"line {first}" if first == last else f"lines {first} to {last}"
    return f"not CSV: a quotation that it opens does not end and swallows {swallowed}"


def _separator(lines: Lines) -> str:
    """Detects the separator: of those in the first line the one with which most records have the
    header's width.
    """
    head = [line for _, line in itertools.islice(lines.strict(), 1)]
    if head and (hint := re.fullmatch("sep=([,;\t|])\n?", head[0])):
        return hint[1]
    many = []
    for separator in SEPARATORS:
        records = (record for _, record in _records(lines, separator, True, to=LOOKED_AT))
        try:
            width = len(next(csv.reader(head, delimiter=separator), []))
        except csv.Error:  # `_records` says what is wrong
            continue
        widths = collections.Counter(map(len, itertools.islice(records, 100)))
        if width > 1:
            many.append((-widths[width] / max(1, widths.total()), len(many), separator))
    return min(many)[2] if many else ","


def _quotes(lines: Lines) -> bool:
    """Returns whether a .tsv quotes its cells, by all cells that begin with a quotation mark.

    It does if only quoting gives all records the same width, if marks inside cells are doubled, or
    if the header is quoted. Otherwise the marks are part of the text.
    """
    lines = lines.strict()
    starts = [number for number, line in lines if re.search('(^|\t)"', line)]
    if not starts:
        return False
    try:
        csv.field_size_limit(sys.maxsize)
        quoted = {len(r) for r in csv.reader((t for _, t in lines), "excel-tab", strict=True) if r}
    except csv.Error:
        return False
    plain = {len(record) for _, record in unquoted_records(lines)}
    if (len(quoted) == 1) != (len(plain) == 1):
        return len(quoted) == 1
    needed = re.compile('(^|\t)"[^\t]*(""|\r)[^\t]*"(\t|$)')
    return starts[0] == 1 or any(needed.search(line.rstrip("\n")) for _, line in lines)

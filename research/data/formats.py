"""The ways in which people keep their examples, by name: what `format` of a source may be.

A format of rows takes rows as a .json, .jsonl, .csv or .tsv has them, and yields rows that have
our field names for a kind of example (`kinds.KINDS`). They keep their own fields beside ours, so
that `fields` of a source may still name one; a row that cannot be used is yielded with `left_out`.
"""

import dataclasses
from collections.abc import Callable, Iterator

from research.data.row import Row
from research.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Format:
    """One way to keep examples.

    Attributes:
      what: what it is, as it stands in messages and docs.
      rows: makes our rows of those of a file.
      recognise: whether the fields of a file's first row are in this format; None: by name only.
    """

    what: str
    rows: Callable[[Iterator[Row]], Iterator[Row]]
    recognise: Callable[[dict], bool] | None = None


FORMATS: dict[str, Format] = {}


def check(name: str) -> None:
    """Raises UserError for a name that is not a format's."""
    if name and name not in FORMATS:
        raise UserError(f"no format named {name!r}{nearest(name, FORMATS)}")


def converted(rows: Iterator[Row], name: str = "") -> Iterator[Row]:
    """The rows of one file in our field names: by the format named, else by the first row."""
    first = next(rows, None)
    if first is None:
        return
    if not name:
        name = next(
            (n for n, f in FORMATS.items() if f.recognise and f.recognise(first.fields)), ""
        )
    rows = _with(first, rows)
    if name:
        rows = (r._replace(read_as=FORMATS[name].what) for r in FORMATS[name].rows(rows))
    yield from rows


def _with(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows

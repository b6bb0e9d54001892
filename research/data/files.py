"""Rows out of the reader's own files: .jsonl, .csv and .txt, each also gzipped.

Every fault in a file is a UserError that names the file and the line.
"""

import csv
import glob
import gzip
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from research import bucket
from research.data import formats
from research.data.row import Row
from research.errors import UserError, nearest

_READABLE = (".jsonl", ".csv", ".txt")
LARGE = 1 << 30  # bytes of files from which on they are not hashed at every start


def find(pattern: str) -> list[Path]:
    """The files that a path or glob (`*`, `?`, `**`) names, sorted. None is a UserError."""
    expanded = os.path.expanduser(pattern)
    if bucket.is_remote(pattern):
        return _readable(_on_bucket(pattern), pattern, "")
    if os.path.isdir(expanded):
        raise UserError(f"files:{pattern} is a folder; name its files, as in {pattern}/*.jsonl")
    if os.path.exists(expanded):  # a name may hold brackets that a glob would read
        found = [Path(expanded)]
    else:
        found = [Path(p) for p in sorted(glob.glob(expanded, recursive=True)) if os.path.isfile(p)]
    return _readable(found, pattern, "" if found else _neighbours(Path(expanded)))


def _on_bucket(pattern: str) -> list[Path]:
    """The files that a path or glob on a bucket names, sorted."""
    scheme, _, rest = pattern.partition("://")
    place, _, below = rest.partition("/")
    return sorted(p for p in bucket.path(f"{scheme}://{place}").glob(below) if p.is_file())


def _readable(found: list[Path], pattern: str, near: str) -> list[Path]:
    """`found`. Raises UserError where there is none, or one that cannot be read."""
    if not found:
        raise UserError(f"files:{pattern} matches no file{near}")
    for path in found:
        if _format(path) not in _READABLE:
            raise UserError(
                f"{path}: cannot read this kind of file; "
                f"valid endings: {', '.join(_READABLE)}, each also with .gz"
            )
    return found


def refuse(error: UserError) -> None:
    """What `rows` does with a malformed line unless it is told otherwise: raises the error."""
    raise error


def rows(
    paths: list[Path],
    malformed: Callable[[UserError], None] = refuse,
    text_lines: bool = False,
    format: str = "",
) -> Iterator[Row]:
    """All rows of the files, in order.

    A line of a .jsonl and a record of a .csv (with a header line) are one row each; a .txt is
    one row {"text"} with its name as id and title.

    Args:
        text_lines: each line of a .txt that is not blank is a row {"text"} of its own.
        malformed: is told what is wrong with a line, of which no row is made then. A file that
            cannot be read on (a .csv or .txt that is not UTF-8, a broken .gz) is always an error.
    """
    for path, name in zip(paths, relative_names(paths), strict=True):
        yield from file_rows(path, name, malformed, text_lines, format)


def file_rows(
    path: Path,
    name: str,
    malformed: Callable[[UserError], None] = refuse,
    text_lines: bool = False,
    format: str = "",
) -> Iterator[Row]:
    """The rows of one file of several, in which its name is `name` (see `relative_names`)."""
    # No "/" in an id made from a name: what stands before one is a prefix, not the id.
    name = name.replace("/", ".")
    if _format(path) == ".txt" and text_lines:
        for number, line in _lines(path, malformed):
            if line.strip():
                text = line.strip("\r\n")
                yield Row(f"{path}, line {number}", f"{name}:{number}", {"text": text})
    elif _format(path) == ".txt":
        yield from _text_rows(path, name)
    else:
        readers = {".jsonl": _json_rows, ".csv": _csv_rows}
        yield from formats.converted(readers[_format(path)](path, name, malformed), format)


def identity(paths: list[Path]) -> list[list]:
    """[name, size, what tells its content from another] of each file.

    That is the SHA-256 of its bytes, or, when together they are LARGE, the second of its last
    change: no file is opened then.
    """
    stats = [_size_and_change(path) for path in paths]
    large = sum(size for size, _ in stats) >= LARGE
    return [
        [name, size, changed if large else content_hash(path)]
        for name, path, (size, changed) in zip(relative_names(paths), paths, stats, strict=True)
    ]


def _size_and_change(path: Path) -> tuple[int, int]:
    """Bytes of a file, and the second of its last change."""
    stat = path.stat()
    if bucket.is_remote(path):
        return stat.length, int(stat.mtime)
    return stat.st_size, int(stat.st_mtime)


def content_hash(path: Path) -> str:
    """SHA-256 of the bytes of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def relative_names(paths: list[Path]) -> list[str]:
    """The paths below the folder that they share: the same wherever that folder stands."""
    whole = [str(p) if bucket.is_remote(p) else str(p.resolve()) for p in paths]
    base = os.path.commonpath([os.path.dirname(name) for name in whole])
    return [Path(os.path.relpath(name, base)).as_posix() for name in whole]


def _format(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _neighbours(path: Path) -> str:
    """What a mistyped path may have meant, or where the path stops existing."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}" if not glob.has_magic(str(folder)) else ""
    there = sorted(p.name for p in folder.iterdir() if p.is_file() and _format(p) in _READABLE)
    if glob.has_magic(path.name) or len(there) > 20:
        return f"; {folder} has {len(there)} files that could be read"
    return nearest(path.name, there)


def _lines(
    path: Path, malformed: Callable[[UserError], None] = refuse
) -> Iterator[tuple[int, str]]:
    """(line number from 1, line with its end). Split at \\n alone, decoded as UTF-8."""
    number = 0
    try:
        with path.open("rb") as raw:
            file = gzip.open(raw) if path.name.endswith(".gz") else raw
            for number, raw in enumerate(file, 1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    place = f"{error.reason} at byte {error.start} of the line"
                    malformed(
                        UserError(
                            f"{path}, line {number}: not UTF-8 ({place}); "
                            "convert the file first, for example with iconv"
                        )
                    )
                else:
                    yield number, line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}, after line {number}: not a whole gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _json_rows(path: Path, name: str, malformed: Callable[[UserError], None]) -> Iterator[Row]:
    for number, line in _lines(path, malformed):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            malformed(UserError(f"{where}: not JSON ({error}); expected one object per line"))
            continue
        if isinstance(fields, dict):
            yield Row(where, f"{name}:{number}", fields)
        else:
            found = type(fields).__name__
            malformed(
                UserError(f'{where}: expected an object such as {{"text": …}}, found {found}')
            )


def _csv_rows(path: Path, name: str, malformed: Callable[[UserError], None]) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # a document may well pass the default of 131,072 characters
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        where = f"{path}, line {start}"
        try:
            record = next(reader, None)
        except csv.Error as error:
            fault = UserError(f"{where}: not CSV ({error})")
            if header is None:  # the next line would be taken for it
                raise fault from error
            malformed(fault)
            continue
        if record is None:
            return
        if not record:
            continue
        if header is None:
            header = record
            if len(set(header)) < len(header):
                raise UserError(f"{where}: a column name occurs twice: {', '.join(header)}")
            continue
        if len(record) != len(header):
            malformed(
                UserError(
                    f"{where}: {len(record)} fields, but the header has {len(header)}: "
                    f"{', '.join(header)}"
                )
            )
            continue
        yield Row(where, f"{name}:{start}", dict(zip(header, record, strict=True)))


def _text_rows(path: Path, name: str) -> Iterator[Row]:
    text = "".join(line for _, line in _lines(path)).replace("\r\n", "\n")
    stem = name.removesuffix(".gz").removesuffix(".txt")
    title = path.name.removesuffix(".gz").removesuffix(".txt")
    if text.strip():
        yield Row(str(path), stem, {"title": title, "text": text})

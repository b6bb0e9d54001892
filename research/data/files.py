"""Rows out of the reader's own files, of the endings in `formats.ENDINGS`, each also gzipped.

Every fault in a file is a UserError that names the file and the line.
"""

import glob
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from research import bucket
from research.data import formats, texts
from research.data.lines import Lines, refuse
from research.data.row import Row, one_line_end
from research.errors import UserError, nearest

LARGE = 1 << 30  # bytes of files from which on they are not hashed at every start


def find(pattern: str, format: str = "") -> list[Path]:
    """The files that a path or glob (`*`, `?`, `**`) names, sorted.

    Raises UserError where there is none, and for an ending that means no format and needs one.
    """
    expanded, near = os.path.expanduser(pattern), ""
    if bucket.is_remote(pattern):
        scheme, _, rest = pattern.partition("://")
        place, _, below = rest.partition("/")
        names = bucket.path(f"{scheme}://{place}").glob(below)
        paths = sorted(path for path in names if path.is_file())
    elif os.path.isdir(expanded):
        raise UserError(f"files:{pattern} is a folder; name its files, as in {pattern}/*.jsonl")
    elif os.path.exists(expanded):  # a name may hold brackets that a glob would read
        paths = [Path(expanded)]
    else:
        names = sorted(glob.glob(expanded, recursive=True))
        paths = [Path(name) for name in names if os.path.isfile(name)]
        near = "" if paths else _neighbours(Path(expanded))
    if not paths:
        raise UserError(f"files:{pattern} matches no file{near}")
    for path in paths:
        if _ending(path) not in formats.ENDINGS and not formats.is_of_lines(format):
            raise UserError(
                f"{path}: cannot read this kind of file; valid endings: "
                f"{', '.join(formats.ENDINGS)}, each also with .gz; or name what it is by format"
            )
    return paths


def rows(
    paths: list[Path],
    malformed: Callable[[UserError], None] = refuse,
    format: str = "",
    document: str | int = "file",
    kind: str = "",
    names: list[str] | None = None,
) -> Iterator[Row]:
    """All rows of the files, in order, with one kind of line end.

    Args:
        malformed: is told what is wrong with a line, of which no row is made then. A file that
            cannot be read on (a .csv or .txt that is not UTF-8, a broken .gz) is always an error.
        format: a name out of `formats.FORMATS`; when empty, what ending and first row say.
        document: what is a document in a .txt (see `Lines`).
        kind: of example that the rows are read as (see `formats.rows`).
        names: of the files in ids; default: `relative_names`.
    """
    for path, name in zip(paths, names or relative_names(paths), strict=True):
        # No "/" in an id made from a name: what stands before one is a prefix, not the id.
        lines = Lines(path, name.replace("/", "."), malformed, document)
        yield from map(one_line_end, formats.rows(lines, _ending(path), format, kind))


def document(paths: list[Path], format: str, chosen: str, corpus: bool) -> str | int:
    """What is a document in the .txt among the files (see `Lines`): what is chosen, or the file.

    Few texts of a corpus are cut into parts, `texts.PARTS` all together: what is held out are whole
    documents, of which there would be none. Raises UserError for a choice where there is no text.
    """
    count = sum(_ending(path) == ".txt" or format == "text" for path in paths)
    if chosen and not count:
        raise UserError(f"{paths[0]}: document={chosen!r} is for texts (.txt)")
    parts = texts.PARTS // max(1, count)
    return parts if corpus and count and not chosen and parts > 1 else chosen or "file"


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


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _neighbours(path: Path) -> str:
    """What a mistyped path may have meant, or where the path stops existing."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}" if not glob.has_magic(str(folder)) else ""
    there = sorted(
        p.name for p in folder.iterdir() if p.is_file() and _ending(p) in formats.ENDINGS
    )
    if glob.has_magic(path.name) or len(there) > 20:
        return f"; {folder} has {len(there)} files that could be read"
    return nearest(path.name, there)

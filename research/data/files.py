"""Reads rows from a user's files, with the endings in `formats.ENDINGS`, each also gzipped.

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

LARGE = 1 << 30  # bytes; larger sets of files are not hashed at every start


def find(pattern: str, format: str = "") -> list[Path]:
    """Returns the files that a path or glob (`*`, `?`, `**`) matches, sorted.

    Raises UserError if there is none, or for an unknown ending without a `format`.
    """
    expanded, near = os.path.expanduser(pattern), ""
    if bucket.is_remote(pattern):
        scheme, _, rest = pattern.partition("://")
        place, _, below = rest.partition("/")
        names = bucket.path(f"{scheme}://{place}").glob(below)
        paths = sorted(path for path in names if path.is_file())
    elif os.path.isdir(expanded):
        raise UserError(f"files:{pattern} is a folder; name its files, as in {pattern}/*.jsonl")
    elif os.path.exists(expanded):  # its name may contain brackets, which a glob would interpret
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
                f"{', '.join(formats.ENDINGS)}, each also with .gz; or set the source's format"
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
    """Yields all rows of the files, in order, with \\n as line ends.

    Args:
        malformed: is called with the error of a malformed line, which is then skipped. A file that
            cannot be read to its end (a .csv not in UTF-8, a broken .gz) is always an error.
        format: a name in `formats.FORMATS`; if empty, the ending and first row decide.
        document: a document in a .txt (see `Lines`).
        kind: the kind of example to read (see `formats.rows`).
        names: the files' names in ids; default: `relative_names`.
    """
    for path, name in zip(paths, names or relative_names(paths), strict=True):
        # No "/" in the name, since the text before a "/" is a prefix of ids.
        lines = Lines(path, name.replace("/", "."), malformed, document)
        yield from map(one_line_end, formats.rows(lines, _ending(path), format, kind))


def document(paths: list[Path], format: str, chosen: str, corpus: bool) -> str | int:
    """Returns what a document is in the .txt files (see `Lines`): `chosen`, or else the file.

    If a corpus has few texts, they are cut into `texts.PARTS` parts in all, or no document might be
    held out. Raises UserError for a choice without a .txt.
    """
    count = sum(_ending(path) == ".txt" or format == "text" for path in paths)
    if chosen and not count:
        raise UserError(f"{paths[0]}: document={chosen!r} is for texts (.txt)")
    parts = texts.PARTS // max(1, count)
    return parts if corpus and count and not chosen and parts > 1 else chosen or "file"


def identity(paths: list[Path]) -> list[list]:
    """Returns [name, size, identity of its content] of each file.

    The identity is the SHA-256 of its bytes. If the files together are LARGE, it is the second of
    the last change, and no file is opened.
    """
    stats = [_size_and_change(path) for path in paths]
    large = sum(size for size, _ in stats) >= LARGE
    return [
        [name, size, changed if large else content_hash(path)]
        for name, path, (size, changed) in zip(relative_names(paths), paths, stats, strict=True)
    ]


def _size_and_change(path: Path) -> tuple[int, int]:
    """Returns the bytes of a file, and the second of its last change."""
    stat = path.stat()
    if bucket.is_remote(path):
        return stat.length, int(stat.mtime)
    return stat.st_size, int(stat.st_mtime)


def content_hash(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def relative_names(paths: list[Path]) -> list[str]:
    """Returns the paths below their common folder, which do not depend on its place."""
    whole = [str(p) if bucket.is_remote(p) else str(p.resolve()) for p in paths]
    base = os.path.commonpath([os.path.dirname(name) for name in whole])
    return [Path(os.path.relpath(name, base)).as_posix() for name in whole]


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _neighbours(path: Path) -> str:
    """Suggests files for a mistyped path, or says which folder does not exist."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}" if not glob.has_magic(str(folder)) else ""
    readable = sorted(
        p.name for p in folder.iterdir() if p.is_file() and _ending(p) in formats.ENDINGS
    )
    if glob.has_magic(path.name) or len(readable) > 20:
        return f"; {folder} has {len(readable)} files that could be read"
    return nearest(path.name, readable)

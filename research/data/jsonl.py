"""Writes JSON Lines."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from research import bucket
from research.errors import UserError


def check_writable(path: str) -> None:
    """Raises UserError if a file cannot be written, before the work that fills it."""
    file = Path(path)
    if file.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    if not file.absolute().parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {file.parent}")


def write(path: str, rows: Iterable[Mapping]) -> None:
    """Writes one JSON object per line, in UTF-8; the file appears when it is complete.

    Raises UserError if it cannot be written.
    """

    def write_to(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(line(row) + "\n" for row in rows)

    try:
        bucket.replace(Path(path), write_to)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def line(row: Mapping) -> str:
    """Returns an object as a line of a file, without its end."""
    return json.dumps(row, ensure_ascii=False)

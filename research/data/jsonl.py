"""Writes JSON Lines."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from research.errors import UserError


def check_writable(path: str) -> None:
    """Raises UserError where a file could not be written, before the work that fills it."""
    file = Path(path)
    if file.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    if not file.absolute().parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {file.parent}")


def write(path: str, rows: Iterable[Mapping]) -> None:
    """Writes one JSON object a line, in UTF-8; the file appears when it is whole.

    It is written as PATH.part and renamed at the end; nothing stays of it if that is not reached.

    Raises UserError where it cannot be written.
    """
    part = Path(f"{path}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(line(row) + "\n" for row in rows)
        part.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if part.is_file():
            part.unlink(missing_ok=True)


def line(row: Mapping) -> str:
    """One object as it stands in a file."""
    return json.dumps(row, ensure_ascii=False)

"""Reads standard input, which "-" names in place of a text or a file."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping

from research.data.lines import refuse
from research.data.row import Row
from research.errors import UserError

SIGN = "-"
NAME = "standard input"


def texts(flags: Mapping[str, str]) -> dict[str, str]:
    """Replaces the flag that is "-" by all of standard input, without its last line end.

    Raises UserError if two flags are "-".
    """
    dashes = [flag for flag, value in flags.items() if value == SIGN]
    if len(dashes) > 1:
        raise UserError(f"--{dashes[0]}=- and --{dashes[1]}=-: only one can be {NAME}")
    return {**flags, **{flag: _decoded(sys.stdin.buffer.read(), NAME) for flag in dashes}}


def rows(malformed: Callable[[UserError], None] = refuse) -> Iterator[Row]:
    """Yields a row for each line that is not blank as soon as it comes: the fields of its JSON
    object, or {"text": line}. `malformed` as in `files.rows`."""
    for number, raw in enumerate(sys.stdin.buffer, 1):
        where = f"{NAME}, line {number}"
        try:
            line = _decoded(raw, where)
            if line.strip():
                yield Row(where, f"stdin:{number}", _fields(line, where))
        except UserError as error:
            malformed(error)


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from error


def _fields(line: str, where: str) -> dict:
    if not line.lstrip().startswith("{"):
        return {"text": line}
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); a text may not begin with {{") from error

"""Reads rows from JSON: an object per line of a .jsonl, or the objects of a .json's array."""

import itertools
import json
from collections.abc import Iterator

from research.data.lines import Lines
from research.data.row import Row
from research.errors import UserError


def line_rows(lines: Lines) -> Iterator[Row]:
    """Yields one object per line."""
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            fault = f"not JSON ({error}); expected one object per line"
            lines.malformed(lines.error(number, fault))
        else:
            yield from _row(lines, number, lines.where(number), value)


def file_rows(lines: Lines) -> Iterator[Row]:
    """Yields the objects of an array, of the array "data" in one object, or that object itself.

    A .json may also be a file of one object per line.
    """
    if _is_lines(lines):
        for row in line_rows(lines):
            yield row._replace(read_as="JSON, one object a line")
        return
    try:
        content = json.loads("".join(line for _, line in lines.strict()))
    except json.JSONDecodeError as error:
        fault = f"not JSON ({error.msg}, at character {error.colno}); expected an array of objects"
        raise lines.error(error.lineno, f"{fault}, or one object a line") from error
    except RecursionError as error:
        raise UserError(f"{lines.path}: not JSON ({error})") from error
    if isinstance(content, dict):
        inner = content.get("data")
        listed = isinstance(inner, list) and bool(inner) and all(isinstance(i, dict) for i in inner)
        content = inner if listed else [content]
    if not isinstance(content, list):
        raise _not_an_object(str(lines.path), content)
    for number, value in enumerate(content, 1):
        yield from _row(lines, number, f"{lines.path}, object {number}", value)


def _row(lines: Lines, number: int, where: str, value: object) -> Iterator[Row]:
    fields = _fields(value)
    if isinstance(fields, dict):
        yield Row(where, lines.id(number), fields)
    else:
        lines.malformed(_not_an_object(where, fields))


def _fields(value: object) -> object:
    """Returns an object; a pair [text, {…}] becomes the object with its text."""
    if isinstance(value, list) and list(map(type, value)) == [str, dict]:
        return {"text": value[0]} | value[1]
    return value


def _is_lines(lines: Lines) -> bool:
    """Returns whether a file has more than one line, and the first is an object."""
    filled = (line for _, line in lines.strict() if line.strip())
    first, *more = [*itertools.islice(filled, 2)] or [""]
    try:
        return bool(more) and isinstance(_fields(json.loads(first)), dict)
    except (ValueError, RecursionError):
        return False


def _not_an_object(where: str, value: object) -> UserError:
    kind = type(value).__name__
    return UserError(f'{where}: expected an object such as {{"text": …}}, found {kind}')

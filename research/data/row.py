"""One row of a file or a data set, before it becomes an example."""

from typing import NamedTuple

from research.errors import UserError


class Unusable(Exception):
    """The reason why a row is left out."""


class Row(NamedTuple):
    """One raw row.

    Attributes:
      where: its file and line, for messages.
      fallback_id: its id if it has none of its own.
      fields: its values by name.
      left_out: why it is not used, or empty. Such rows are counted and reported.
      read_as: how its file is read, for messages; empty if the file's ending says it.
    """

    where: str
    fallback_id: str
    fields: dict
    left_out: str = ""
    read_as: str = ""

    @property
    def names(self) -> str:
        """The names of its fields, for messages."""
        return ", ".join(map(str, self.fields))

    def error(self, text: str) -> UserError:
        """Returns an error about this row."""
        return UserError(f"{self.where}: {text}")

    def get(self, name: str) -> object:
        """Returns the value of a field. Raises UserError if the row lacks it."""
        if name not in self.fields:
            raise self.error(f"no field {name!r}; there are: {self.names}")
        return self.fields[name]


def one_line_end(row: Row) -> Row:
    """Replaces line ends (\\r\\n, \\r) in a row's texts by \\n, so equal texts have equal tokens.

    The starts of answers in these texts move accordingly.
    """
    if not _has_return(row.fields):
        return row
    fields = {key: _moved(value, row.fields) for key, value in row.fields.items()}
    return row._replace(fields=_one_line_end(fields))


def _has_return(value: object) -> bool:
    if isinstance(value, str):
        return "\r" in value
    if isinstance(value, dict):
        return any(map(_has_return, value.values()))
    return isinstance(value, list) and any(map(_has_return, value))


def _one_line_end(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, dict):
        return {key: _one_line_end(part) for key, part in value.items()}
    return [_one_line_end(part) for part in value] if isinstance(value, list) else value


def _moved(value: object, fields: dict) -> object:
    """Moves answers ({"text": [...], "answer_start": [...]}) to their starts in the new text."""
    if not isinstance(value, dict) or not {"text", "answer_start"} <= value.keys():
        return value
    texts, starts = value["text"], value["answer_start"]
    if not isinstance(texts, list) or not isinstance(starts, list):
        return value
    for context in filter(lambda field: isinstance(field, str), fields.values()):
        if all(_stands(context, *pair) for pair in zip(texts, starts, strict=False)):
            return value | {"answer_start": [s - context[:s].count("\r\n") for s in starts]}
    return value


def _stands(context: str, text: object, start: object) -> bool:
    return isinstance(text, str) and type(start) is int and context.startswith(text, max(start, 0))

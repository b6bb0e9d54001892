"""Turns the rows of files into examples.

An example is a dict of one of eight kinds:

    document        id, title, text                 paragraphs separated by a blank line
    classification  id, text, label                 or id, text_a, text_b, label
    multi_label     id, text, labels               or id, text_a, text_b, labels: a list of names
    multiple_choice id, text, choices, label       a list of texts, and the right one or its index
    tokens          id, tokens, tags               to predict: tokens, or a raw text
    question        id, title, context, question, answers {text: [...], answer_start: [...]}
    story           id, title, text
    chat            id, messages [{role, content}, …]: of system, user, assistant; or a raw text

Both lists of answers are empty if a question has none. `answer_start` counts characters; it is None
if the row does not give it and the context does not contain the answer exactly once.
"""

import ast
import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from research.data import chats
from research.data.row import Row
from research.errors import UserError, nearest

Example = dict[str, object]

KINDS = {
    "document": ("id", "title", "text"),
    "classification": ("id", "text", "text_a", "text_b", "label"),
    "multi_label": ("id", "text", "text_a", "text_b", "labels"),
    "multiple_choice": ("id", "text", "choices", "label"),
    "tokens": ("id", "tokens", "tags"),
    "question": ("id", "title", "context", "question", "answers"),
    "story": ("id", "title", "text"),
    "chat": ("id", "messages"),
}
TARGETS = ("label", "labels", "tags", "answers")  # the fields to predict
OR_TEXT = {"tokens": "tokens", "chat": "messages"}  # for prediction, a raw text may replace these
PAIR = ("text_a", "text_b")
_OPTIONAL = ("id", "title")  # the default id is the row's place, the default title is empty
_NEEDED = ("text", *PAIR, "question")  # texts that must not be empty
_READ = (*_NEEDED, "context", "choices", "tokens", "messages")
_WANTED = {
    "label": "a text, a number, true or false",
    "labels": "a list of labels",
    "choices": "a list of texts",
    "tokens": "a list of words",
    "tags": "a list of tags, one for each token",
    "messages": 'a list of {"role": …, "content": …}',
    "answers": 'a text, a list of texts, or {"text": [...], "answer_start": [...]}',
}


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a kind's fields in a table.

    Attributes:
      fields: field -> column. The table must have these columns.
      others: field -> column, used only if the table has the column.
      label_names: the names of the numbers in a label, labels or tags, from 0 on.
    """

    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    label_names: tuple[str, ...] = ()

    def column(self, field: str, row: Row) -> str:
        """Returns the column of a field, whether or not the row has it."""
        other = self.others.get(field)
        return self.fields.get(field, other if other in row.fields else field)


def check_fields(name: str, kind: str, fields: Iterable[str], labelled: bool = True) -> None:
    """Raises UserError for an unknown kind, or a field that the kind does not have.

    Args:
        labelled: as in `example`.
    """
    if kind not in KINDS:
        raise UserError(f"no kind of example named {kind!r}{nearest(kind, KINDS)}")
    known = (*KINDS[kind], *(("text",) if kind in OR_TEXT and not labelled else ()))
    for ours in fields:
        if ours not in known:
            raise UserError(f"{name}: a {kind} has no field {ours!r}{nearest(ours, known)}")


def names_in(row: Row, kind: str, columns: Columns) -> list[str]:
    """Returns the fields of this kind that the row has."""
    known = (*KINDS[kind], "text") if kind in OR_TEXT else KINDS[kind]
    return [field for field in known if columns.column(field, row) in row.fields]


def wanted(row: Row, kind: str, columns: Columns, labelled: bool) -> dict[str, str]:
    """Returns field -> column for all fields of an example of this kind.

    `columns`, or else the row, decides whether a label is of one text or a pair; of one if the row
    has both. For prediction a raw text replaces a field in `OR_TEXT` that the row lacks.
    """
    names = [n for n in KINDS[kind] if labelled or n not in TARGETS]
    if set(PAIR) <= set(KINDS[kind]):
        named = {"text", *PAIR}
        named = {n for n in named if n in columns.fields or columns.others.get(n) in row.fields}
        if "text" in named and len(named) > 1:
            raise row.error("fields names both text and text_a or text_b; name one text or a pair")
        named = named or {"text"} & set(names_in(row, kind, columns))
        named = named or set(PAIR) & set(names_in(row, kind, columns)) or {"text"}
        unused = ("text",) if named & set(PAIR) else PAIR
        names = [n for n in names if n not in unused]
    instead = None if labelled else OR_TEXT.get(kind)
    if instead and instead not in (has := names_in(row, kind, columns)) and "text" in has:
        names = ["text" if name == instead else name for name in names]
    return {field: columns.column(field, row) for field in names}


def example(row: Row, kind: str, columns: Columns, labelled: bool = True) -> Example:
    """Turns a row into an example.

    Args:
        labelled: False ignores the fields to predict.

    Raises UserError, naming file and line, for a row that is not of this kind.
    """
    places = wanted(row, kind, columns, labelled)
    fields = {field: _value(row, field, places, columns) for field in places}
    if "tags" in fields and len(fields["tokens"]) != len(fields["tags"]):
        raise row.error(f"{len(fields['tokens'])} tokens but {len(fields['tags'])} tags")
    if "answers" in fields:
        fields["answers"] = _placed(row, fields["answers"], fields["context"])
    return fields


def example_id(row: Row, column: str) -> str:
    """Returns the id of a row, from a column or else from its place."""
    value = row.fields.get(column, row.fallback_id)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise row.error(f"{column!r} should be an id (text or a number)")
    return _text(_Cell(row, column, str(value)))


def emptiness(example: Example) -> str:
    """Returns why an example is unusable: an empty text; "" if it is usable."""
    for name in _NEEDED:
        if not str(example.get(name, "-")).strip():
            return f"{name} is empty"
    return "" if example.get("tokens", True) else "no tokens"


def texts(example: Example) -> Iterator[str]:
    """Yields the texts of an example that a model reads; a list of words is one text."""
    return strings([example[name] for name in _READ if name in example])


def strings(value: object) -> Iterator[str]:
    """Yields all texts in a JSON value, such as a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        yield " ".join(value)
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def labels_in(example: Example) -> Sequence[str]:
    """Returns the labels or tags of an example, if its kind has any."""
    if "label" in example:
        return [example["label"]]
    return example.get("labels", example.get("tags", ()))


class _Cell(NamedTuple):
    """A value of a row, to be read as a field of an example. label_names: as in `Columns`."""

    row: Row
    name: str
    value: object
    label_names: Sequence[str] = ()

    def error(self, text: str) -> UserError:
        """Returns an error about this value."""
        return self.row.error(f"{self.name!r} {text}")

    def expected(self, wanted: str) -> UserError:
        """Returns the error that the value is not what is wanted."""
        return self.error(f"should be {wanted}, found {_shown(self.value)}")

    def parts(self, some: bool = False) -> list["_Cell"]:
        """Returns the parts of a list; a table's cell has it as JSON or as a Python literal."""
        value = _parsed(self.value) if isinstance(self.value, str) else self.value
        if value is None and isinstance(self.value, str):
            raise self.error("should be a list, as JSON")
        if not isinstance(value, list):
            raise self._replace(value=value).expected("a list")
        if some and not value:
            raise self.error("is empty")
        return [self._replace(value=part) for part in value]


def _value(row: Row, ours: str, places: Mapping[str, str], columns: Columns) -> object:
    column = places[ours]
    if column not in row.fields:
        if ours in _OPTIONAL and ours not in columns.fields:
            return row.fallback_id if ours == "id" else ""
        raise row.error(_missing(row, ours, places, columns))
    if ours == "id":
        return example_id(row, column)
    return _READERS[ours](_Cell(row, column, row.fields[column], columns.label_names))


def _missing(row: Row, ours: str, places: Mapping[str, str], columns: Columns) -> str:
    """Says that a column is missing, and suggests another one."""
    column = places[ours]
    renamed = "" if column == ours else f" (for our {ours!r})"
    read_as = f" (read as {row.read_as})" if row.read_as else ""
    text = f"no field {column!r}{renamed}; there are: {row.names}{read_as}. "
    taken = {place for name, place in places.items() if name != ours}
    fit = [name for name in row.fields if name not in taken and _fits(row, ours, name, columns)]
    if not fit:
        return f"{text}None of them is {_WANTED.get(ours, 'text')}, as {ours!r} must be"
    # A text is long, and a label short.
    best = (min if ours == "label" else max)(fit, key=lambda name: len(str(row.fields[name])))
    return f"{text}Name it with fields, as in {json.dumps({ours: best}, ensure_ascii=False)}"


def _fits(row: Row, ours: str, name: str, columns: Columns) -> bool:
    try:
        return bool(_READERS[ours](_Cell(row, name, row.fields[name], columns.label_names)))
    except UserError:
        return False


def _text(cell: _Cell) -> str:
    if not isinstance(cell.value, str):
        raise cell.expected("text")
    try:
        cell.value.encode()
    except UnicodeEncodeError as error:
        place = f"(a lone surrogate, at character {error.start})"
        raise cell.error(f"holds half a character {place}") from error
    return cell.value


def _label(cell: _Cell) -> str:
    """Returns a label as text; numbers (stars, 0 and 1) and truths become text or their names."""
    value, names = cell.value, cell.label_names
    if value is None:
        raise cell.error("is null: an example without a label (test splits often hide theirs)")
    if names and value not in names:
        return names[_number(cell)]
    if isinstance(value, bool):
        value = str(value).lower()
    label = _text(cell._replace(value=str(value) if isinstance(value, int | float) else value))
    if not label:
        raise cell.error("is an empty label")
    return label


def _number(cell: _Cell) -> int:
    """Returns the index into `label_names` that a number, or its text, stands for."""
    names = cell.label_names
    try:
        number = float(cell.value)
    except (TypeError, ValueError):
        number = -1.0
    if not (number.is_integer() and 0 <= number < len(names)):
        raise cell.error(
            f"is {_shown(cell.value)}; label_names has names for 0 ({names[0]}) to "
            f"{len(names) - 1} ({names[-1]})"
        )
    return int(number)


def _labels(cell: _Cell) -> list[str]:
    return list(map(_label, cell.parts()))


def _tags(cell: _Cell) -> list[str]:
    if not cell.label_names and any(isinstance(tag.value, int) for tag in cell.parts()):
        raise cell.error(
            "holds numbers; name them, from 0 on, with "
            '--config.data.train.label_names=\'["O", "B-PER", …]\''
        )
    return _labels(cell)


def _words(cell: _Cell, some: bool = False) -> list[str]:
    words = list(map(_text, cell.parts(some)))
    if not all(words):
        raise cell.error("holds an empty word")
    return words


def _messages(cell: _Cell) -> list[dict[str, str]]:
    messages = cell.parts(some=True)
    for message in messages:
        turn = message.value
        if not isinstance(turn, dict) or turn.get("role") not in chats.ROLES:
            raise message.expected(f"{_WANTED['messages']} with the roles {', '.join(chats.ROLES)}")
        _text(cell._replace(name=f"{cell.name}.content", value=turn.get("content")))
    return [message.value for message in messages]


def _answers(cell: _Cell) -> dict[str, list]:
    """Converts all ways to write answers to one: texts, and their places if given."""
    value = _in_cell(cell.value) if isinstance(cell.value, str) else cell.value
    if isinstance(value, dict) and "text" in value:
        texts = value["text"] if isinstance(value["text"], list) else [value["text"]]
        starts = value.get("answer_start", [None] * len(texts))
        starts = starts if isinstance(starts, list) else [starts]
    elif isinstance(value, list):
        answers = [one if isinstance(one, dict) else {"text": one} for one in value]
        texts = [one.get("text") for one in answers]
        starts = [one.get("answer_start") for one in answers]
    elif isinstance(value, int | float):
        texts, starts = [value], [None]
    else:
        raise cell._replace(value=value).expected(_WANTED["answers"])
    numbers = (str(t) if isinstance(t, int | float) else t for t in texts)
    texts = [_text(cell._replace(name=f"{cell.name}.text", value=text)) for text in numbers]
    if len(texts) != len(starts) or not all(s is None or type(s) is int for s in starts):
        raise cell.error("needs one whole number in answer_start per text")
    return {"text": texts, "answer_start": starts}


def _in_cell(text: str) -> object:
    """Reads the answers in a table's cell; any text that is not a list of them is one answer."""
    parsed = _parsed(text)
    several = isinstance(parsed, list) and all(isinstance(one, str | dict) for one in parsed)
    if several or (isinstance(parsed, dict) and "text" in parsed):
        return parsed
    return [text] if text else []


def _placed(row: Row, answers: dict[str, list], context: str) -> dict[str, list]:
    """Completes the places of answers that the context contains exactly once.

    Raises UserError for an answer that is not at its place, since another span would be learnt.
    """
    starts = []
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        if start is None:
            first = context.find(text) if text else -1
            once = first >= 0 and context.find(text, first + 1) < 0
            starts.append(first if once else None)
            continue
        actual = context[max(0, start) : max(0, start) + len(text)]
        if start < 0 or not text or actual != text:
            raise row.error(
                f"answer_start {start} does not point at the answer {text!r}; there the context "
                f"has {actual!r} (count characters, not bytes)"
            )
        starts.append(start)
    return {"text": answers["text"], "answer_start": starts}


def _parsed(cell: str) -> object:
    """Parses a table's cell as JSON or a Python literal; None if it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:60] + '…'}"


_READERS: dict[str, Callable[[_Cell], object]] = {
    "title": lambda cell: "" if cell.value is None else _text(cell),
    **dict.fromkeys(("text", *PAIR, "context", "question"), _text),
    "label": _label,
    "labels": _labels,
    "choices": functools.partial(_words, some=True),
    "tokens": _words,
    "tags": _tags,
    "answers": _answers,
    "messages": _messages,
}

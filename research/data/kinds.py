"""What a row means: from a row of a file to an example, the same for all who read one.

An example is a dict of one of eight kinds:

    document        id, title, text                 paragraphs separated by a blank line
    classification  id, text, label                 or id, text_a, text_b, label
    multi_label     id, text, labels               or id, text_a, text_b, labels: a list of names
    multiple_choice id, text, choices, label       a list of texts, and the right one or its number
    tokens          id, tokens, tags               to predict: tokens, or a raw text
    question        id, title, context, question, answers {text: [...], answer_start: [...]}
    story           id, title, text
    chat            id, messages [{role, content}, …]: of system, user, assistant; or a raw text

The answers of a question are both empty when it has none; `answer_start` counts characters, and is
None for an answer whose place is not told and that the context does not have exactly once.
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
TARGETS = ("label", "labels", "tags", "answers")  # what is to be predicted
OR_TEXT = {"tokens": "tokens", "chat": "messages"}  # to predict, a raw text may stand for these
PAIR = ("text_a", "text_b")
_MADE_UP = ("id", "title")  # what a row may lack: an id is made from its place, a title is empty
_NEEDED = ("text", *PAIR, "question")  # texts without which there is nothing to learn
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
    """Where a kind's fields stand in a table.

    Attributes:
      fields: our name -> theirs. A column that is named here has to be there.
      others: the same, but taken only of a table that has the column.
      label_names: what the numbers in a label, labels or tags stand for, counted from 0.
    """

    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    label_names: tuple[str, ...] = ()

    def theirs(self, ours: str, row: Row) -> str:
        """The column of a field, whether or not the row has it."""
        other = self.others.get(ours)
        return self.fields.get(ours, other if other in row.fields else ours)


def check_fields(name: str, kind: str, fields: Iterable[str], labelled: bool = True) -> None:
    """Raises UserError for a kind that does not exist, or a field that the kind does not have.

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
    """Our names of what the row has of an example of this kind."""
    known = (*KINDS[kind], "text") if kind in OR_TEXT else KINDS[kind]
    return [ours for ours in known if columns.theirs(ours, row) in row.fields]


def wanted(row: Row, kind: str, columns: Columns, labelled: bool) -> dict[str, str]:
    """Our name -> the column, of all that an example of this kind is made of.

    A label is of one text or of two, as `columns` says or else the row shows; where both stand in
    it, of one. To predict, what `OR_TEXT` names may be a raw text, unless it is there too.
    """
    names = [n for n in KINDS[kind] if labelled or n not in TARGETS]
    if set(PAIR) <= set(KINDS[kind]):
        named = {"text", *PAIR}
        named = {n for n in named if n in columns.fields or columns.others.get(n) in row.fields}
        if "text" in named and len(named) > 1:
            raise row.error("fields names text and text_a or text_b; one text or a pair")
        named = named or {"text"} & set(names_in(row, kind, columns))
        named = named or set(PAIR) & set(names_in(row, kind, columns)) or {"text"}
        unused = ("text",) if named & set(PAIR) else PAIR
        names = [n for n in names if n not in unused]
    instead = None if labelled else OR_TEXT.get(kind)
    if instead and instead not in (there := names_in(row, kind, columns)) and "text" in there:
        names = ["text" if name == instead else name for name in names]
    return {ours: columns.theirs(ours, row) for ours in names}


def example(row: Row, kind: str, columns: Columns, labelled: bool = True) -> Example:
    """The example that a row is.

    Args:
        labelled: it has what is to be predicted; False: that is not looked at.

    Raises UserError, naming file and line, for a row that is not of this kind.
    """
    places = wanted(row, kind, columns, labelled)
    fields = {ours: _value(row, ours, places, columns) for ours in places}
    if "tags" in fields and len(fields["tokens"]) != len(fields["tags"]):
        raise row.error(f"{len(fields['tokens'])} tokens but {len(fields['tags'])} tags")
    if "answers" in fields:
        fields["answers"] = _placed(row, fields["answers"], fields["context"])
    return fields


def example_id(row: Row, theirs: str) -> str:
    """The id of a row, which stands in a column or else is made from its place."""
    value = row.fields.get(theirs, row.fallback_id)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise row.error(f"{theirs!r} should be an id (text or a number)")
    return _text(_Cell(row, theirs, str(value)))


def emptiness(example: Example) -> str:
    """Why nothing is learnt from an example: it has no words; "" where it has."""
    for name in _NEEDED:
        if not str(example.get(name, "-")).strip():
            return f"{name} is empty"
    return "" if example.get("tokens", True) else "no tokens"


def texts(example: Example) -> Iterator[str]:
    """What is to be read in an example, text by text; words in a list are one."""
    return strings([example[name] for name in _READ if name in example])


def strings(value: object) -> Iterator[str]:
    """All texts in a value of JSON, of a row, say."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        yield " ".join(value)
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def labels_in(example: Example) -> Sequence[str]:
    """The labels, or tags, of an example; none of a kind that has none."""
    if "label" in example:
        return [example["label"]]
    return example.get("labels", example.get("tags", ()))


class _Cell(NamedTuple):
    """A value of a row that is read as one of an example's. label_names: as `Columns` has them."""

    row: Row
    name: str
    value: object
    label_names: Sequence[str] = ()

    def error(self, text: str) -> UserError:
        """What is wrong with it."""
        return self.row.error(f"{self.name!r} {text}")

    def expected(self, wanted: str) -> UserError:
        """That the value is not what is wanted."""
        return self.error(f"should be {wanted}, found {_shown(self.value)}")

    def parts(self, some: bool = False) -> list["_Cell"]:
        """Those of a list, which a cell of a table holds as JSON or as Python writes it."""
        value = _parsed(self.value) if isinstance(self.value, str) else self.value
        if value is None and isinstance(self.value, str):
            raise self.error("should be a list, as JSON")
        if not isinstance(value, list):
            raise self._replace(value=value).expected("a list")
        if some and not value:
            raise self.error("is empty")
        return [self._replace(value=part) for part in value]


def _value(row: Row, ours: str, places: Mapping[str, str], columns: Columns) -> object:
    theirs = places[ours]
    if theirs not in row.fields:
        if ours in _MADE_UP and ours not in columns.fields:
            return row.fallback_id if ours == "id" else ""
        raise row.error(_missing(row, ours, places, columns))
    if ours == "id":
        return example_id(row, theirs)
    return _READERS[ours](_Cell(row, theirs, row.fields[theirs], columns.label_names))


def _missing(row: Row, ours: str, places: Mapping[str, str], columns: Columns) -> str:
    """That a column is not there, and which other one may be it."""
    theirs = places[ours]
    renamed = "" if theirs == ours else f" (for our {ours!r})"
    read_as = f" (read as {row.read_as})" if row.read_as else ""
    text = f"no field {theirs!r}{renamed}; there are: {row.names}{read_as}. "
    taken = {place for name, place in places.items() if name != ours}
    fit = [name for name in row.fields if name not in taken and _fits(row, ours, name, columns)]
    if not fit:
        return f"{text}None of them is {_WANTED.get(ours, 'text')}, as {ours!r} has to be"
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
    """A label is text; numbers (stars, 0 and 1) and truths become text, or the names they have."""
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
    """Which of the names a number, or a text that is one, stands for."""
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
            "holds numbers; say what they stand for, from 0 on, with "
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
    """All the ways to write answers, in one: texts, and the places that are told."""
    value = _in_cell(cell.value) if isinstance(cell.value, str) else cell.value
    if isinstance(value, dict) and "text" in value:
        texts = value["text"] if isinstance(value["text"], list) else [value["text"]]
        starts = value.get("answer_start", [None] * len(texts))
        starts = starts if isinstance(starts, list) else [starts]
    elif isinstance(value, list):
        apart = [one if isinstance(one, dict) else {"text": one} for one in value]
        texts = [one.get("text") for one in apart]
        starts = [one.get("answer_start") for one in apart]
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
    """The answers in a cell of a table; what is not written as those is one answer itself."""
    parsed = _parsed(text)
    several = isinstance(parsed, list) and all(isinstance(one, str | dict) for one in parsed)
    if several or (isinstance(parsed, dict) and "text" in parsed):
        return parsed
    return [text] if text else []


def _placed(row: Row, answers: dict[str, list], context: str) -> dict[str, list]:
    """The answers with their places, as told or where the context has one exactly once.

    Raises UserError for one that does not stand where it is said to: it would be learnt as another
    span.
    """
    starts = []
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        if start is None:
            first = context.find(text) if text else -1
            once = first >= 0 and context.find(text, first + 1) < 0
            starts.append(first if once else None)
            continue
        there = context[max(0, start) : max(0, start) + len(text)]
        if start < 0 or not text or there != text:
            raise row.error(
                f"answer_start {start} does not point at the answer {text!r}; there the context "
                f"has {there!r} (count characters, not bytes)"
            )
        starts.append(start)
    return {"text": answers["text"], "answer_start": starts}


def _parsed(cell: str) -> object:
    """What a cell of a table holds, as JSON or as Python writes it; None where it is neither."""
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

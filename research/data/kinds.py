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
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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
    "messages": "a list of turns",
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
            raise UserError(
                f"{row.where}: fields names text and text_a or text_b; one text or a pair"
            )
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
    found = {ours: _value(row, ours, places, columns) for ours in places}
    if "tags" in found and len(found["tokens"]) != len(found["tags"]):
        raise UserError(f"{row.where}: {len(found['tokens'])} tokens but {len(found['tags'])} tags")
    if "answers" in found:
        found["answers"] = _placed(row, found["answers"], found["context"])
    return found


def example_id(row: Row, theirs: str) -> str:
    """The id of a row, which stands in a column or else is made from its place."""
    value = row.fields.get(theirs, row.fallback_id)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{row.where}: {theirs!r} should be an id (text or a number)")
    return _text(row, theirs, str(value))


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


def _value(row: Row, ours: str, places: Mapping[str, str], columns: Columns) -> object:
    theirs = places[ours]
    if theirs not in row.fields:
        if ours in _MADE_UP and ours not in columns.fields:
            return row.fallback_id if ours == "id" else ""
        raise UserError(_missing(row, ours, places, columns))
    if ours == "id":
        return example_id(row, theirs)
    return _READERS[ours](row, theirs, row.fields[theirs], columns.label_names)


def _missing(row: Row, ours: str, places: Mapping[str, str], columns: Columns) -> str:
    """That a column is not there, and which other one may be it."""
    theirs, there = places[ours], list(map(str, row.fields))
    renamed = "" if theirs == ours else f" (for our {ours!r})"
    read_as = f" (read as {row.read_as})" if row.read_as else ""
    text = f"{row.where}: no field {theirs!r}{renamed}; there are: {', '.join(there)}{read_as}. "
    taken = {place for name, place in places.items() if name != ours}
    fit = [name for name in row.fields if name not in taken and _fits(row, ours, name, columns)]
    if not fit:
        return f"{text}None of them is {_WANTED.get(ours, 'text')}, as {ours!r} has to be"
    # A text is long, and a label short.
    best = (min if ours == "label" else max)(fit, key=lambda name: len(str(row.fields[name])))
    return f"{text}Name it with fields, as in {json.dumps({ours: best}, ensure_ascii=False)}"


def _fits(row: Row, ours: str, name: str, columns: Columns) -> bool:
    try:
        return bool(_READERS[ours](row, name, row.fields[name], columns.label_names))
    except UserError:
        return False


def _text(row: Row, name: str, value: object, _: Sequence[str] = ()) -> str:
    if not isinstance(value, str):
        raise UserError(f"{row.where}: {name!r} should be text, found {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{row.where}: {name!r} holds half a character (a lone surrogate, "
            f"at character {error.start})"
        ) from error
    return value


def _title(row: Row, name: str, value: object, _: Sequence[str]) -> str:
    return _text(row, name, "" if value is None else value)


def _label(row: Row, name: str, value: object, names: Sequence[str]) -> str:
    """A label is text; numbers (stars, 0 and 1) and truths become text, or the names they have."""
    if value is None:
        raise UserError(
            f"{row.where}: {name!r} is null: an example without a label (test splits "
            "often hide theirs)"
        )
    if names and value not in names:
        return names[_number(row, name, value, names)]
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, int | float):
        value = str(value)
    label = _text(row, name, value)
    if not label:
        raise UserError(f"{row.where}: {name!r} is an empty label")
    return label


def _number(row: Row, name: str, value: object, names: Sequence[str]) -> int:
    """Which of the names a number, or a text that is one, stands for."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not (number.is_integer() and 0 <= number < len(names)):
        raise UserError(
            f"{row.where}: {name!r} is {_shown(value)}; label_names has names for 0 ({names[0]}) "
            f"to {len(names) - 1} ({names[-1]})"
        )
    return int(number)


def _labels(row: Row, name: str, value: object, names: Sequence[str]) -> list[str]:
    return [_label(row, name, label, names) for label in _list(row, name, value)]


def _tags(row: Row, name: str, value: object, names: Sequence[str]) -> list[str]:
    tags = _list(row, name, value)
    if not names and any(isinstance(tag, int) for tag in tags):
        raise UserError(
            f"{row.where}: {name!r} holds numbers; say what they stand for, from 0 on, with "
            '--config.data.train.label_names=\'["O", "B-PER", …]\''
        )
    return [_label(row, name, tag, names) for tag in tags]


def _words(row: Row, name: str, value: object, _: Sequence[str]) -> list[str]:
    words = [_text(row, name, word) for word in _list(row, name, value)]
    if not all(words):
        raise UserError(f"{row.where}: {name!r} holds an empty word")
    return words


def _choices(row: Row, name: str, value: object, _: Sequence[str]) -> list[str]:
    choices = _words(row, name, value, _)
    if not choices:
        raise UserError(f"{row.where}: {name!r} is empty")
    return choices


def _list(row: Row, name: str, value: object) -> list:
    if isinstance(value, str):  # a cell of a table
        value = _parsed(value)
        if value is None:
            raise UserError(f"{row.where}: {name!r} should be a list, as JSON")
    if not isinstance(value, list):
        raise UserError(f"{row.where}: {name!r} should be a list, found {_shown(value)}")
    return value


def _messages(row: Row, name: str, value: object, _: Sequence[str]) -> list[dict[str, str]]:
    messages = _list(row, name, value)
    if not messages:
        raise UserError(f"{row.where}: {name!r} is empty")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in chats.ROLES:
            raise UserError(
                f'{row.where}: {name!r} should be a list of {{"role": …, "content": …}} with the '
                f"roles {', '.join(chats.ROLES)}, found {_shown(message)}"
            )
        _text(row, f"{name}.content", message.get("content"))
    return messages


def _answers(row: Row, name: str, value: object, _: Sequence[str]) -> dict[str, list]:
    """All the ways to write answers, in one: texts, and the places that are told."""
    if isinstance(value, str):
        value = _cell(value)
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
        raise UserError(
            f"{row.where}: {name!r} should be {_WANTED['answers']}, found {_shown(value)}"
        )
    numbers = (str(t) if isinstance(t, int | float) else t for t in texts)
    texts = [_text(row, f"{name}.text", text) for text in numbers]
    if len(texts) != len(starts) or not all(s is None or type(s) is int for s in starts):
        raise UserError(f"{row.where}: {name!r} needs one whole number in answer_start per text")
    return {"text": texts, "answer_start": starts}


def _cell(text: str) -> object:
    """The answers in a cell of a table; what is not written as those is one answer itself."""
    found = _parsed(text)
    several = isinstance(found, list) and all(isinstance(one, str | dict) for one in found)
    if several or (isinstance(found, dict) and "text" in found):
        return found
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
            raise UserError(
                f"{row.where}: answer_start {start} does not point at the answer {text!r}; "
                f"there the context has {there!r} (count characters, not bytes)"
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


_READERS: dict[str, Callable[[Row, str, object, Sequence[str]], object]] = {
    "title": _title,
    "text": _text,
    "text_a": _text,
    "text_b": _text,
    "label": _label,
    "labels": _labels,
    "choices": _choices,
    "tokens": _words,
    "tags": _tags,
    "context": _text,
    "question": _text,
    "answers": _answers,
    "messages": _messages,
}

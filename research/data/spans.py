"""Reads entities in the forms of annotation tools: a text and labelled spans of its characters.

    doccano       {"text", "label" or "labels": [[start, end, LABEL], …]}, or "entities":
                  [{"start_offset", "end_offset", "label"}, …]
    spaCy         [text, {"entities": [[start, end, LABEL], …]}]; also a list of these as the
                  "annotations" of one object
    Prodigy       {"text", "spans": [{"start", "end", "label"}, …], "answer"}
    Label Studio  {"data": {"text"}, "annotations": [{"result": [{"value": {"start", "end",
                  "labels"}}]}]}, or short {"text", "label": [{"start", "end", "labels"}, …]}

They become words (`words.split`) with BIO tags. A row is left out if a span does not begin and end
with a word, or shares a word with another span: tags could not express it.
"""

import bisect
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from research.data import words
from research.data.row import Row, Unusable

_NAMES = ("entities", "spans", "label", "labels")  # fields that may contain a text's spans
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")


class Span(NamedTuple):
    """A label of text[start:end]; `copy` is the tool's own copy of that text, if it has one."""

    start: int
    end: int
    label: str
    copy: str | None = None


def starts(fields: dict) -> bool:
    """Returns whether a file is of this form, by the fields of its first row."""
    if "tags" in fields:
        return False
    if _of_label_studio(fields) or _nested(fields):
        return True
    return isinstance(fields.get("text"), str) and bool(_name(fields))


def texts(row: Row) -> Iterator[Row]:
    """Yields the row, or the rows nested in it."""
    if not _nested(row.fields):
        yield row
        return
    for number, pair in enumerate(row.fields["annotations"], 1):
        fields = {"text": pair[0], **pair[1]} if pair else {}
        left_out = "" if pair else "not annotated"
        yield Row(f"{row.where}, text {number}", f"{row.fallback_id}.{number}", fields, left_out)


def tagged(row: Row) -> Iterator[Row]:
    """Yields the row with tokens and tags.

    Raises UserError for a span outside its text, or in an unknown form.
    """
    text, spans = _read(row)
    tokens, tags = _tagged(row, text, spans)
    yield row._replace(fields=row.fields | {"text": text, "tokens": tokens, "tags": tags})


def _nested(fields: dict) -> bool:
    """Returns whether a row has pairs of a text and its entities (null for a skipped one)."""
    pairs = fields.get("annotations")
    if not isinstance(pairs, list) or not pairs or "data" in fields:
        return False
    listed = [pair for pair in pairs if pair is not None]
    return all(isinstance(pair, list) and [*map(type, pair)] == [str, dict] for pair in listed)


def _name(fields: dict) -> str:
    """Returns the field that contains a text's spans, or "". An empty list of labels may belong
    to another task."""
    for name in _NAMES:
        spans = _listed(fields.get(name))
        if spans is not None and all(map(_is_span, spans)) and (spans or name != "labels"):
            return name
    return ""


def _listed(value: Any) -> list | None:
    if isinstance(value, str) and value.startswith("["):  # a cell of a table
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _is_span(span: Any) -> bool:
    if isinstance(span, dict):
        return any(name in span for name in _STARTS)
    return isinstance(span, list) and len(span) == 3 and isinstance(span[2], str)


def _read(row: Row) -> tuple[str, list[Span]]:
    if _of_label_studio(row.fields):
        return _label_studio(row)
    text, name = row.fields.get("text"), _name(row.fields)
    if not isinstance(text, str) or not name and row.fields.get("labels") != []:
        names = ", ".join(_NAMES)
        raise row.error(
            'expected a text, and a list of spans such as [0, 3, "PER"] in one of '
            f"{names}; there are: {row.names}"
        )
    if row.fields.get("answer", "accept") != "accept":
        raise Unusable(f"its answer is {row.fields['answer']!r}")
    return text, _spans(row, _listed(row.fields.get(name)) or [])


def _of_label_studio(fields: dict) -> bool:
    annotations = fields.get("annotations", fields.get("completions"))
    return isinstance(fields.get("data"), dict) and isinstance(annotations, list)


def _label_studio(row: Row) -> tuple[str, list[Span]]:
    """Returns the text of a task, and the spans on which its annotators agree."""
    texts = {name: v for name, v in row.fields["data"].items() if isinstance(v, str)}
    name = "text" if "text" in texts or len(texts) != 1 else next(iter(texts))
    if name not in texts:
        raise row.error(
            f"which text of 'data' is annotated? There are: {', '.join(texts)}; name it 'text'"
        )
    text = texts[name]
    annotations = row.fields.get("annotations", row.fields.get("completions"))
    each = [_spans(row, _values(a)) for a in annotations if not a.get("was_cancelled")]
    if not each:
        raise Unusable("not annotated")
    if any(set(spans) != set(each[0]) for spans in each):
        raise Unusable(f"its {len(each)} annotations differ")
    if any(span.copy is None for span in each[0]) and any(ord(sign) > 0xFFFF for sign in text):
        raise Unusable("spans without their texts beside an emoji, which may count as two")
    return text, each[0]


def _values(annotation: dict) -> list[dict]:
    """Returns the labelled spans among the results, without choices, ratings and relations."""
    values = (result.get("value", {}) for result in annotation.get("result", ()))
    return [value for value in values if "labels" in value]


def _spans(row: Row, spans: list) -> list[Span]:
    """Returns the spans of one text, each once, in order."""
    unique: set[Span] = set()
    for span in spans:
        if isinstance(span, dict):
            start, end = (
                next((span[n] for n in names if n in span), None) for names in (_STARTS, _ENDS)
            )
            labels = span.get("labels", [span.get("label")])
            copy = span.get("text")
        else:
            start, end, *labels = span
            copy = None
        for label in labels:
            if type(start) is not int or type(end) is not int or not isinstance(label, str):
                raise row.error(
                    'expected a span such as [0, 3, "PER"] (characters from and to, and a label), '
                    f"found {span!r:.100}"
                )
            unique.add(Span(start, end, label, copy if isinstance(copy, str) else None))
    return sorted(unique, key=lambda span: span[:3])


def _tagged(row: Row, text: str, spans: list[Span]) -> tuple[list[str], list[str]]:
    """Returns the words of a text and their tags."""
    places = words.split(text)
    tags = ["O"] * len(places)
    for span in spans:
        start, end = _place(row, text, span)
        shown = f"{text[start:end]!r}, {span.label}, characters {span.start} to {span.end}"
        first = bisect.bisect_right(places, start, key=lambda place: place[1])
        last = bisect.bisect_left(places, end, key=lambda place: place[0])
        if first >= last or places[first][0] < start or places[last - 1][1] > end:
            raise Unusable(f"a span that does not begin and end with a word: {shown}")
        if any(tag != "O" for tag in tags[first:last]):
            raise Unusable(f"a span that overlaps another one: {shown}")
        tags[first:last] = [f"B-{span.label}", *[f"I-{span.label}"] * (last - first - 1)]
    return [text[start:end] for start, end in places], tags


def _place(row: Row, text: str, span: Span) -> tuple[int, int]:
    """Returns the characters of a span. A tool in a browser may have counted UTF-16 units, which
    its own copy of the span's text reveals."""
    start, end, label, copy = span
    if copy is not None and start >= 0 and text[start:end] != copy:
        units = text.encode("utf-16-le", "surrogatepass")
        before = units[: 2 * start].decode("utf-16-le", "ignore")
        if text[len(before) : len(before) + len(copy)] == copy:
            return len(before), len(before) + len(copy)
    if not 0 <= start <= end <= len(text):
        raise row.error(
            f"the span {start} to {end} ({label}) is outside the text, which has {len(text):,} "
            "characters"
        )
    if copy is not None and text[start:end] != copy:
        raise Unusable(
            f"a span that differs from its own text: {text[start:end]!r}, not {copy!r} "
            f"({label}, characters {start} to {end})"
        )
    return start, end

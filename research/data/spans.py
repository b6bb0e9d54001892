"""Entities as annotation tools keep them: a text, and spans of its characters with a label.

    doccano       {"text", "label" or "labels": [[start, end, LABEL], …]}, or "entities":
                  [{"start_offset", "end_offset", "label"}, …]
    spaCy         [text, {"entities": [[start, end, LABEL], …]}]; also many of them as the
                  "annotations" of one object
    Prodigy       {"text", "spans": [{"start", "end", "label"}, …], "answer"}
    Label Studio  {"data": {"text"}, "annotations": [{"result": [{"value": {"start", "end",
                  "labels"}}]}]}, or short {"text", "label": [{"start", "end", "labels"}, …]}

They become words (`words.split`) with BIO tags. A row is left out where a span does not begin and
end with a word, or shares one with another span: its tags would say what nobody has annotated.
"""

import bisect
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from research.data import words
from research.data.row import Row, Unusable

_NAMES = ("entities", "spans", "label", "labels")  # under which a text's spans stand
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")


class Span(NamedTuple):
    """A label of text[start:end]; `said` is that text as the tool has it, where it tells it."""

    start: int
    end: int
    label: str
    said: str | None = None


def starts(fields: dict) -> bool:
    """Whether a file is of this form, by the fields of its first row."""
    if "tags" in fields:
        return False
    if _of_label_studio(fields) or _nested(fields):
        return True
    return isinstance(fields.get("text"), str) and bool(_name(fields))


def texts(row: Row) -> Iterator[Row]:
    """The row, or those that are nested in it."""
    if not _nested(row.fields):
        yield row
        return
    for number, pair in enumerate(row.fields["annotations"], 1):
        fields = {"text": pair[0], **pair[1]} if pair else {}
        left_out = "" if pair else "not annotated"
        yield Row(f"{row.where}, text {number}", f"{row.fallback_id}.{number}", fields, left_out)


def tagged(row: Row) -> Iterator[Row]:
    """The row with tokens and tags.

    Raises UserError for a span outside its text, or one that is not of a form above.
    """
    text, spans = _read(row)
    tokens, tags = _tagged(row, text, spans)
    yield row._replace(fields=row.fields | {"text": text, "tokens": tokens, "tags": tags})


def _nested(fields: dict) -> bool:
    """Whether a row holds pairs of a text and its entities (or null, for one passed over)."""
    pairs = fields.get("annotations")
    if not isinstance(pairs, list) or not pairs or "data" in fields:
        return False
    listed = [pair for pair in pairs if pair is not None]
    return all(isinstance(pair, list) and [*map(type, pair)] == [str, dict] for pair in listed)


def _name(fields: dict) -> str:
    """The field in which a text's spans stand, "" if none does. An empty list of labels may be
    that of another task."""
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
    done = fields.get("annotations", fields.get("completions"))
    return isinstance(fields.get("data"), dict) and isinstance(done, list)


def _label_studio(row: Row) -> tuple[str, list[Span]]:
    """The text of a task, and the spans on which its annotators agree."""
    texts = {name: v for name, v in row.fields["data"].items() if isinstance(v, str)}
    name = "text" if "text" in texts or len(texts) != 1 else next(iter(texts))
    if name not in texts:
        raise row.error(
            f"which text of 'data' is annotated? There are: {', '.join(texts)}; name it 'text'"
        )
    text = texts[name]
    done = row.fields.get("annotations", row.fields.get("completions"))
    done = [_spans(row, _values(a)) for a in done if not a.get("was_cancelled")]
    if not done:
        raise Unusable("not annotated")
    if any(set(spans) != set(done[0]) for spans in done):
        raise Unusable(f"its {len(done)} annotations differ")
    if any(span.said is None for span in done[0]) and any(ord(sign) > 0xFFFF for sign in text):
        raise Unusable("spans without their texts beside an emoji, which may count as two")
    return text, done[0]


def _values(annotation: dict) -> list[dict]:
    """The labelled spans among the results; there are choices, ratings and relations too."""
    values = (result.get("value", {}) for result in annotation.get("result", ()))
    return [value for value in values if "labels" in value]


def _spans(row: Row, spans: list) -> list[Span]:
    """Spans of one text, each once, in order."""
    unique: set[Span] = set()
    for span in spans:
        if isinstance(span, dict):
            start, end = (
                next((span[n] for n in names if n in span), None) for names in (_STARTS, _ENDS)
            )
            labels = span.get("labels", [span.get("label")])
            said = span.get("text")
        else:
            start, end, *labels = span
            said = None
        for label in labels:
            if type(start) is not int or type(end) is not int or not isinstance(label, str):
                raise row.error(
                    'expected a span such as [0, 3, "PER"] (characters from and to, and a label), '
                    f"found {span!r:.100}"
                )
            unique.add(Span(start, end, label, said if isinstance(said, str) else None))
    return sorted(unique, key=lambda span: span[:3])


def _tagged(row: Row, text: str, spans: list[Span]) -> tuple[list[str], list[str]]:
    """The words of a text, and their tags."""
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
    """The characters of a span. A tool in a browser may have counted UTF-16 units: its own copy of
    the span's text tells."""
    start, end, label, said = span
    if said is not None and start >= 0 and text[start:end] != said:
        units = text.encode("utf-16-le", "surrogatepass")
        before = units[: 2 * start].decode("utf-16-le", "ignore")
        if text[len(before) : len(before) + len(said)] == said:
            return len(before), len(before) + len(said)
    if not 0 <= start <= end <= len(text):
        raise row.error(
            f"the span {start} to {end} ({label}) is outside the text, which has {len(text):,} "
            "characters"
        )
    if said is not None and text[start:end] != said:
        raise Unusable(
            f"a span that reads otherwise than it says: {text[start:end]!r}, not {said!r} "
            f"({label}, characters {start} to {end})"
        )
    return start, end

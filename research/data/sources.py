"""Where examples come from: bundled data, files, or a TFDS set, all as the same plain dicts.

An example is a dict of one of eight kinds:

    document        id, title, text                 paragraphs separated by a blank line
    classification  id, text, label                 or id, text_a, text_b, label
    multi_label     id, text, labels               or id, text_a, text_b, labels: a list of names
    multiple_choice id, text, choices, label       a list of texts, and the right one or its number
    tokens          id, tokens, tags
    question        id, title, context, question, answers {text: [...], answer_start: [...]}
    story           id, title, text
    chat            id, messages [{role, content}, …]  of system, user and assistant

The answers of a question are both empty when it has none; `answer_start` counts characters.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from research.data import bundled, chats, files, formats, texts, tfds_source
from research.data.row import Row
from research.errors import UserError, nearest

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
_MADE_UP = ("id", "title")  # what a row may lack: an id is made from its place, a title is empty
_PAIR = ("text_a", "text_b")
FILES_READ = 2  # raise it when the same files would give other rows
PIECE = 10_000  # examples of a TFDS set that are read together


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One source.

    Attributes:
      name: "bundled:corpus/brown", "files:/data/*.jsonl.gz" or "tfds:imdb_reviews".
      split: of a TFDS set ("train" when empty); slices such as "train[:1%]" are understood.
      fields: our field name -> theirs, such as {"text": "review", "label": "stars"}.
      exclude: names of other sources whose ids are left out. Only the part of an id after its
        last "/" is compared: "brown/ca02" and "ca02" are the same document.
      percent: the share of the examples that is kept, chosen by a hash of their ids; a set that is
        sorted by something stays representative, which `take` does not promise.
      take: the first n examples, 0 for all.
      data_dir: where TFDS keeps its sets (its own default when empty).
      format: how examples are kept in the files, a name out of `formats.FORMATS`; when empty, what
        their ending and their first row say.
      document: what is a document in a .txt: "line", "paragraph" or "file". When empty, the file;
        of a corpus of few .txt each is cut into parts, so that some can be held out.
    """

    name: str
    split: str = ""
    fields: Mapping[str, str] | tuple[()] = ()
    exclude: tuple[str, ...] = ()
    percent: float = 100.0
    take: int = 0
    data_dir: str = ""
    format: str = ""
    document: str = ""


def read(config: SourceConfig, kind: str) -> Iterator[dict]:
    """The examples of a source, in a fixed order, each checked against its kind.

    Raises UserError at the call for a wrong name, kind or field name, and on the way for a
    faulty row (with file and line) or a source without examples.
    """
    fields = _fields(config, kind)
    return _examples(config, kind, fields, _rows(config, kind, fields), _left_out(config))


def pieces(config: SourceConfig) -> list[Callable[[], Iterator[dict]]]:
    """The documents of a source in parts that can be read apart: in order, what `read` yields.

    A part is a file, or PIECE examples of a TFDS set; with `take` all is one part. None is opened
    before it is called. Raises UserError as `read`, but not for a source without examples.
    """
    kind, (prefix, rest) = "document", _parts(config.name)
    fields = _fields(config, kind)
    left_out = functools.cache(lambda: _left_out(config))

    def reader(rows: Callable[[], Iterator[Row]]) -> Callable[[], Iterator[dict]]:
        return lambda: _examples(config, kind, fields, rows(), left_out(), whole=False)

    if config.take:
        return [reader(lambda: _rows(config, kind, fields))]
    if prefix == "tfds":
        split = (rest, config.split, config.data_dir)
        size = tfds_source.size(*split)
        spans = [range(at, min(size, at + PIECE)) for at in range(0, size, PIECE)]
        return [reader(functools.partial(tfds_source.rows, *split, span)) for span in spans]
    paths = _paths(config)
    named = zip(paths, files.relative_names(paths), strict=True)
    how = _how_read(config, kind, paths)
    return [reader(functools.partial(files.file_rows, *file, **how)) for file in named]


def _fields(config: SourceConfig, kind: str) -> dict[str, str]:
    """Our field name -> the source's. Raises UserError for a wrong name, kind or field."""
    if kind not in KINDS:
        raise UserError(f"no kind of example named {kind!r}{nearest(kind, KINDS)}")
    _check(config)
    fields = dict(config.fields)
    for ours in fields:
        if ours not in KINDS[kind]:
            raise UserError(
                f"source {config.name}: a {kind} has no field {ours!r}{nearest(ours, KINDS[kind])}"
            )
    prefix, rest = _parts(config.name)
    if prefix == "tfds" and not fields:
        known = tfds_source.fields(rest)
        fields = {ours: theirs for ours, theirs in known.items() if ours in KINDS[kind]}
    return fields


def fingerprint(config: SourceConfig) -> str:
    """SHA-256, hex, of what decides the examples: contents, fields, what is left out, and take.

    Files count with their names below their common folder, sizes and contents (or times, see
    `files.identity`); a TFDS set with its name, version, split and the sizes of its shards.
    """
    _check(config)
    prefix, rest = _parts(config.name)
    if prefix == "tfds":
        content = tfds_source.identity(rest, config.split, config.data_dir)
    else:
        content = files.identity(_paths(config))
    whole = {
        "prefix": prefix,
        "content": content,
        "fields": sorted(dict(config.fields).items()),
        "exclude": [fingerprint(SourceConfig(name)) for name in config.exclude],
        "percent": config.percent,
        "take": config.take,
    }
    if prefix == "files":
        whole |= {"format": config.format, "document": config.document, "read": FILES_READ}
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def held_out(example_id: str, percent: float = 2.0) -> bool:
    """Whether an id belongs to the validation part: by its hash, so whatever the order is."""
    return percentile(example_id) < percent


def percentile(key: str) -> float:
    """Where in [0, 100) the hash of a key lies."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 * 100


def _check(config: SourceConfig) -> None:
    prefix, _ = _parts(config.name)
    formats.check(config.format)
    if config.document and config.document not in texts.DOCUMENTS:
        hint = nearest(config.document, texts.DOCUMENTS)
        raise UserError(f"source {config.name}: document={config.document!r} is not known{hint}")
    if prefix == "tfds" and (config.format or config.document):
        raise UserError(f"source {config.name}: format and document are for files: sources")
    if prefix != "tfds":
        for key in ("split", "data_dir"):
            if getattr(config, key):
                raise UserError(
                    f"source {config.name}: {key} is for tfds: sources; "
                    "bundled data and files name each split by itself"
                )
    if config.take < 0:
        raise UserError(f"source {config.name}: take is {config.take}; 0 takes all, n the first n")
    if not 0.0 < config.percent <= 100.0:
        raise UserError(f"source {config.name}: percent is {config.percent}; it is in (0, 100]")
    for name in config.exclude:
        if _parts(name)[0] == "tfds":
            raise UserError(f"source {config.name}: exclude names {name}; only bundled: or files:")


def _parts(name: str) -> tuple[str, str]:
    """("bundled", "corpus/brown") of "bundled:corpus/brown"."""
    prefix, colon, rest = name.partition(":")
    if not colon or not rest:
        raise UserError(
            f"source {name!r}: expected bundled:NAME, files:PATH or tfds:NAME, "
            "such as bundled:corpus/brown"
        )
    if prefix not in ("bundled", "files", "tfds"):
        raise UserError(f"source {name!r}{nearest(prefix, ('bundled', 'files', 'tfds'))}")
    return prefix, rest


def _paths(config: SourceConfig) -> list[Path]:
    prefix, rest = _parts(config.name)
    return [bundled.path(rest)] if prefix == "bundled" else files.find(rest, config.format)


def _how_read(config: SourceConfig, kind: str, paths: list[Path]) -> dict:
    document = files.document(paths, config.format, config.document, corpus=kind == "document")
    return {"format": config.format, "document": document}


def _rows(config: SourceConfig, kind: str, fields: Mapping[str, str]) -> Iterator[Row]:
    prefix, rest = _parts(config.name)
    if prefix != "tfds":
        paths = _paths(config)
        return files.rows(paths, **_how_read(config, kind, paths))
    rows = tfds_source.rows(rest, config.split, config.data_dir)
    if kind == "tokens":  # conll2003 ends in a sentence without words
        column = fields.get("tokens", "tokens")
        return (row for row in rows if row.fields.get(column) != [])
    return rows


def _left_out(config: SourceConfig) -> set[str]:
    return {key for name in config.exclude for key in _ids(name)}


def _ids(name: str) -> Iterator[str]:
    """The last parts of the ids of a source."""
    for row in files.rows(_paths(SourceConfig(name))):
        yield _last_part(_id(row, "id"))


def _last_part(example_id: str) -> str:
    return example_id.rpartition("/")[2]


def _id(row: Row, theirs: str) -> str:
    value = row.fields.get(theirs, row.fallback_id)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{row.where}: {theirs!r} should be an id (text or a number)")
    return str(value)


def _examples(
    config: SourceConfig,
    kind: str,
    fields: dict[str, str],
    rows: Iterator[Row],
    left_out: set[str],
    whole: bool = True,
) -> Iterator[dict]:
    """`whole`: the rows are all of the source's, so that none is an error."""
    seen = given = 0
    wanted: tuple[str, ...] = ()
    for row in rows:
        if row.left_out:
            continue
        wanted = wanted or _wanted(kind, fields, row)
        seen += 1
        example = {ours: _value(row, ours, fields) for ours in wanted}
        if _last_part(example["id"]) in left_out:
            continue
        # Salted: the share must not be the one that `held_out` takes.
        if config.percent < 100.0 and percentile(f"percent {example['id']}") >= config.percent:
            continue
        if kind == "tokens" and len(example["tokens"]) != len(example["tags"]):
            raise UserError(
                f"{row.where}: {len(example['tokens'])} tokens but {len(example['tags'])} tags"
            )
        if kind == "question":
            _check_answers(row, example)
        yield example
        given += 1
        if given == config.take:
            return
    if whole and not seen:
        raise UserError(f"source {config.name} is empty: there is not one example in it")
    if whole and not given:
        raise UserError(
            f"source {config.name}: exclude ({', '.join(config.exclude)}) and percent "
            f"({config.percent}) leave none of its {seen} examples"
        )


def _wanted(kind: str, fields: dict[str, str], row: Row) -> tuple[str, ...]:
    """The fields of this kind; a label is of one text or of two, as its first row shows."""
    if kind not in ("classification", "multi_label"):
        return KINDS[kind]
    named = set(fields) & {"text", *_PAIR}
    if not named:
        named = {"text"} if "text" in row.fields else set(_PAIR) & set(row.fields)
    if "text" in named and len(named) > 1:
        raise UserError(f"{row.where}: fields names text and text_a or text_b; one text or a pair")
    return ("id", *(_PAIR if named & set(_PAIR) else ("text",)), KINDS[kind][-1])


def _value(row: Row, ours: str, fields: dict[str, str]) -> object:
    theirs = fields.get(ours, ours)
    if theirs not in row.fields:
        if ours not in _MADE_UP or ours in fields:
            renamed = "" if theirs == ours else f" (for our {ours!r})"
            there = list(map(str, row.fields))
            read_as = f" (read as {row.read_as})" if row.read_as else ""
            raise UserError(
                f"{row.where}: no field {theirs!r}{renamed}; there are: {', '.join(there)}"
                f"{read_as}. Name it with fields, as in "
                f'{{"{ours}": "{(there or ["theirs"])[0]}"}}'
            )
        return row.fallback_id if ours == "id" else ""
    if ours == "id":
        return _text(row, theirs, _id(row, theirs))
    return _READERS[ours](row, theirs, row.fields[theirs])


def _text(row: Row, name: str, value: object) -> str:
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


def _title(row: Row, name: str, value: object) -> str:
    return _text(row, name, "" if value is None else value)


def _label(row: Row, name: str, value: object) -> str:
    """A label is text; numbers (stars, 0 and 1) become text."""
    if value is None:
        raise UserError(
            f"{row.where}: {name!r} is null: an example without a label (test splits "
            "often hide theirs)"
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    label = _text(row, name, value)
    if not label:
        raise UserError(f"{row.where}: {name!r} is an empty label")
    return label


def _labels(row: Row, name: str, value: object) -> list[str]:
    return [_label(row, name, label) for label in _list(row, name, value)]


def _words(row: Row, name: str, value: object) -> list[str]:
    words = [_text(row, name, word) for word in _list(row, name, value)]
    if not words or not all(words):
        raise UserError(f"{row.where}: {name!r} is empty or holds an empty word")
    return words


def _list(row: Row, name: str, value: object) -> list:
    if isinstance(value, str):  # a cell of a CSV holds it as JSON
        value = _parsed(row, name, value)
    if not isinstance(value, list):
        raise UserError(f"{row.where}: {name!r} should be a list, found {_shown(value)}")
    return value


def _messages(row: Row, name: str, value: object) -> list[dict[str, str]]:
    messages = _list(row, name, value)
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in chats.ROLES:
            raise UserError(
                f'{row.where}: {name!r} should be a list of {{"role": …, "content": …}} with the '
                f"roles {', '.join(chats.ROLES)}, found {_shown(message)}"
            )
        _text(row, f"{name}.content", message.get("content"))
    if not messages:
        raise UserError(f"{row.where}: {name!r} is empty")
    return messages


def _answers(row: Row, name: str, value: object) -> dict[str, list]:
    if isinstance(value, str):
        value = _parsed(row, name, value)
    if not isinstance(value, dict) or not {"text", "answer_start"} <= value.keys():
        raise UserError(
            f"{row.where}: {name!r} should be "
            f'{{"text": [...], "answer_start": [...]}}, found {_shown(value)}'
        )
    texts = [_text(row, f"{name}.text", text) for text in _list(row, name, value["text"])]
    starts = _list(row, name, value["answer_start"])
    if len(texts) != len(starts) or not all(type(start) is int for start in starts):
        raise UserError(f"{row.where}: {name!r} needs one whole number in answer_start per text")
    return {"text": texts, "answer_start": starts}


def _check_answers(row: Row, example: dict) -> None:
    """An answer that does not stand where it is said to would be learnt as another span."""
    answers, context = example["answers"], example["context"]
    for text, start in zip(answers["text"], answers["answer_start"], strict=True):
        found = context[max(0, start) : max(0, start) + len(text)]
        if start < 0 or not text or found != text:
            raise UserError(
                f"{row.where}: answer_start {start} does not point at the answer {text!r}; "
                f"there the context has {found!r} (count characters, not bytes)"
            )


def _parsed(row: Row, name: str, value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{row.where}: {name!r} should be a list or object, as JSON") from error


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:60] + '…'}"


_READERS: dict[str, Callable[[Row, str, object], object]] = {
    "title": _title,
    "text": _text,
    "text_a": _text,
    "text_b": _text,
    "label": _label,
    "labels": _labels,
    "choices": _words,
    "tokens": _words,
    "tags": _words,
    "context": _text,
    "question": _text,
    "answers": _answers,
    "messages": _messages,
}

"""Reads examples from bundled data, files or TFDS sets, all as plain dicts (see
`research.data.kinds`)."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from research.data import bundled, files, formats, kinds, overlap, texts, tfds_source
from research.data.kinds import Columns, Example
from research.data.left_out import LeftOut
from research.data.overlap import Grams
from research.data.row import Row
from research.errors import UserError, nearest

FILES_READ = 2  # increase it when the same files give other rows
PIECE = 10_000  # examples of a TFDS set in one piece
Reader = Callable[[], Iterator[Row]]


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One source.

    Attributes:
      name: "bundled:corpus/brown", "files:/data/*.jsonl.gz" or "tfds:imdb_reviews".
      split: the split of a TFDS set ("train" if empty), also a slice such as "train[:1%]".
      fields: our field -> column, such as {"text": "review", "label": "stars"}.
      exclude: names of other sources, such as the test sets of tasks. Examples that share 13
        consecutive words with one of their texts are left out (see `overlap.Grams.copied`).
      percent: share of the examples to keep, chosen by a hash of their ids; unlike with `take`, a
        sorted set stays representative.
      take: the first n examples, 0 for all.
      part: (from, to) in percent: the examples whose id's hash is in this range; empty for all.
        (0, 5) and (5, 100) are a held-out share and the rest.
      label_names: the names of the numbers in labels or tags, in order from 0 on.
      data_dir: folder of TFDS's sets (TFDS's default if empty).
      format: the format of the files, a name in `formats.FORMATS`; if empty, their ending and first
        row decide.
      document: a document in a .txt: "line", "paragraph" or "file". If empty, the file; in a corpus
        of few .txt each is cut into parts, so that some can be held out.
    """

    alone: ClassVar[str] = "name"  # the key whose value may replace the whole config

    name: str
    split: str = ""
    fields: Mapping[str, str] = ()
    exclude: tuple[str, ...] = ()
    percent: float = 100.0
    take: int = 0
    part: tuple[float, ...] = ()
    label_names: tuple[str, ...] = ()
    data_dir: str = ""
    format: str = ""
    document: str = ""


def read(config: SourceConfig, kind: str) -> Iterator[Example]:
    """Yields the examples of a source in a fixed order, each checked against its kind.

    Raises UserError at the call for a wrong name, kind or field name, and while reading for a
    faulty row (with file and line) or a source without examples.
    """
    return (example for _, example in placed(config, kind))


def placed(
    config: SourceConfig,
    kind: str,
    columns: Columns | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[tuple[Row, Example]]:
    """Yields the examples of `read`, each with its row.

    Args:
        columns: the columns of the fields; default: those of the source.
        left_out: counts the unusable rows.
    """
    columns = columns or columns_of(config, kind)
    kinds.check_fields(f"source {config.name}", kind, columns.fields)
    rows = itertools.chain.from_iterable(read() for read in _readers(config, kind))
    return _examples(config, kind, columns, rows, _excluded(config), left_out or LeftOut())


def pieces(config: SourceConfig) -> list[Callable[..., Iterator[Example]]]:
    """Returns readers of a source's pieces, which in order yield the documents of `read`.

    A reader takes a `LeftOut` that counts unusable rows. A piece is a file, or PIECE examples of a
    TFDS set; with `take` the whole source is one piece. Calling a reader opens its piece.

    Raises UserError as `read`, but not for a source without examples.
    """
    kind = "document"
    columns, readers = columns_of(config, kind), _readers(config, kind)
    excluded = functools.cache(lambda: _excluded(config))
    together = [readers] if config.take else [[read] for read in readers]

    def piece(readers: list[Reader]) -> Callable[..., Iterator[Example]]:
        def examples(left_out: LeftOut | None = None) -> Iterator[Example]:
            rows = itertools.chain.from_iterable(read() for read in readers)
            unused = left_out or LeftOut()
            placed = _examples(config, kind, columns, rows, excluded(), unused, whole=False)
            return (example for _, example in placed)

        return examples

    return list(map(piece, together))


def columns_of(config: SourceConfig, kind: str) -> Columns:
    """Returns the source's columns. Raises UserError for a wrong name, kind or field."""
    kinds.check_fields(f"source {config.name}", kind, dict(config.fields))
    _check(config)
    fields, (prefix, rest) = dict(config.fields), _parts(config.name)
    if prefix == "tfds" and not fields:
        known, names = tfds_source.fields(rest), kinds.KINDS[kind]
        fields = {name: column for name, column in known.items() if name in names}
    return Columns(fields, label_names=config.label_names)


def fingerprint(config: SourceConfig) -> str:
    """Returns the SHA-256, hex, of everything that determines the examples.

    Of files these are names below their common folder, sizes and contents (or times, see
    `files.identity`), of a TFDS set name, version, split and sizes.
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
    # Unused keys do not count, so that caches from before a key existed stay valid.
    whole |= {"excluded by": overlap.RULE} if config.exclude else {}
    whole |= {key: v for key in ("part", "label_names") if (v := getattr(config, key))}
    if prefix == "files":
        whole |= {"format": config.format, "document": config.document, "read": FILES_READ}
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def held_out(example_id: str, percent: float = 2.0) -> bool:
    """Returns whether an id is in the validation split, by its hash."""
    return percentile(example_id) < percent


def percentile(key: str) -> float:
    """Returns the place of a key's hash in [0, 100)."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 * 100


def _check(config: SourceConfig) -> None:
    prefix, _ = _parts(config.name)
    formats.check(config.format)
    document, part, is_tfds = config.document, config.part, prefix == "tfds"
    by_name = "is for tfds: sources; bundled data and files name each split by itself"
    unread = [name for name in config.exclude if _parts(name)[0] == "tfds"]
    faults = {
        f"document={document!r} is not known{nearest(document, texts.DOCUMENTS)}": (
            document and document not in texts.DOCUMENTS
        ),
        "format and document are for files: sources": is_tfds and (config.format or document),
        f"split {by_name}": config.split and not is_tfds,
        f"data_dir {by_name}": config.data_dir and not is_tfds,
        f"take is {config.take}; 0 takes all, n the first n": config.take < 0,
        f"percent is {config.percent}; it is in (0, 100]": not 0.0 < config.percent <= 100.0,
        f"part is {list(part)}; it is [from, to] in percent": (
            part and not (len(part) == 2 and 0 <= part[0] < part[1] <= 100)
        ),
        f"exclude names {', '.join(unread)}; only bundled: or files:": unread,
    }
    for fault, is_there in faults.items():
        if is_there:
            raise UserError(f"source {config.name}: {fault}")


def _parts(name: str) -> tuple[str, str]:
    """Splits "bundled:corpus/brown" into ("bundled", "corpus/brown")."""
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


def _readers(config: SourceConfig, kind: str) -> list[Reader]:
    """Returns a reader of each file's rows, or of each PIECE examples of a TFDS set."""
    prefix, rest = _parts(config.name)
    if prefix == "tfds":
        split = (rest, config.split, config.data_dir)
        size = tfds_source.size(*split)
        spans = [range(at, min(size, at + PIECE)) for at in range(0, size, PIECE)]
        return [functools.partial(tfds_source.rows, *split, span) for span in spans]
    paths = _paths(config)
    document = files.document(paths, config.format, config.document, corpus=kind == "document")
    how = {"format": config.format, "document": document, "kind": kind}
    named = zip(paths, files.relative_names(paths), strict=True)
    return [functools.partial(files.rows, [path], names=[name], **how) for path, name in named]


def _excluded(config: SourceConfig) -> Grams:
    """Returns the grams of the excluded sources' texts."""
    prints = tuple(fingerprint(SourceConfig(name)) for name in config.exclude)
    return _held_out(config.exclude, prints)


@functools.lru_cache(2)  # the sources of a corpus mostly exclude the same
def _held_out(names: tuple[str, ...], _: tuple[str, ...]) -> Grams:
    """Raises UserError for a source whose texts are too short to exclude anything."""
    return Grams.of(text for name in names for text in _texts(name))


def _texts(name: str) -> Iterator[str]:
    longest = 0
    for row in files.rows(_paths(SourceConfig(name))):
        for text in kinds.strings(row.fields):
            longest = max(longest, len(text.split()))
            yield text
    if longest < overlap.WORDS:
        raise UserError(
            f"exclude names {name}, whose longest text has {longest} words; texts are compared, "
            f"not ids, by at least {overlap.WORDS} words"
        )


def _examples(
    config: SourceConfig,
    kind: str,
    columns: Columns,
    rows: Iterator[Row],
    excluded: Grams,
    left_out: LeftOut,
    whole: bool = True,
) -> Iterator[tuple[Row, Example]]:
    """`whole`: the rows are the whole source, so it is an error if there are none."""
    seen = count = 0
    for row in rows:
        seen += 1
        example = {} if row.left_out else kinds.example(row, kind, columns)
        if not _is_chosen(config, example.get("id", row.fallback_id)):
            continue
        if config.exclude and any(map(excluded.copied, kinds.texts(example))):
            left_out.add(row, f"shares {overlap.RULE} with a text that exclude names")
            continue
        reason = row.left_out or kinds.emptiness(example)
        # In a corpus white space counts as text; empty documents are left out by the outline.
        stays = kind == "document" and not row.left_out
        if reason and not (stays and example["text"]):
            left_out.add(row, reason)
        if reason and not stays:
            continue
        yield row, example
        count += 1
        if count == config.take:
            return
    if whole and not seen:
        raise UserError(f"source {config.name} is empty: it has no examples")
    if whole and not count:
        why = [f"percent ({config.percent:g})"] if config.percent < 100 else []
        why += [f"part ({list(config.part)})"] if config.part else []
        reasons = "; ".join([*([" and ".join(why)] if why else []), *left_out.lines()])
        raise UserError(f"source {config.name}: none of its {seen} examples is left: {reasons}")


def _is_chosen(config: SourceConfig, example_id: str) -> bool:
    if config.part and not config.part[0] <= percentile(example_id) < config.part[1]:
        return False
    # Salted, so that the share is independent of `held_out`.
    return config.percent == 100.0 or percentile(f"percent {example_id}") < config.percent

"""Where examples come from: bundled data, files, or a TFDS set, all as the same plain dicts
(`research.data.kinds` says which)."""

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

FILES_READ = 2  # raise it when the same files would give other rows
PIECE = 10_000  # examples of a TFDS set that are read together
Reader = Callable[[], Iterator[Row]]


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One source.

    Attributes:
      name: "bundled:corpus/brown", "files:/data/*.jsonl.gz" or "tfds:imdb_reviews".
      split: of a TFDS set ("train" when empty); slices such as "train[:1%]" are understood.
      fields: our field name -> theirs, such as {"text": "review", "label": "stars"}.
      exclude: names of other sources, such as the test sets of tasks. What shares 13 words on end
        with a text of theirs is left out whole (see `overlap.Grams.copied`).
      percent: the share of the examples that is kept, chosen by a hash of their ids; a set that is
        sorted by something stays representative, which `take` does not promise.
      take: the first n examples, 0 for all.
      part: (from, to) in percent: the examples of which the hash of the id lies there, all without
        it. (0, 5) and (5, 100) are a share that is held out, and the rest.
      label_names: what the numbers in labels or tags stand for, in their order from 0 on.
      data_dir: where TFDS keeps its sets (its own default when empty).
      format: how examples are kept in the files, a name out of `formats.FORMATS`; when empty, what
        their ending and their first row say.
      document: what is a document in a .txt: "line", "paragraph" or "file". When empty, the file;
        of a corpus of few .txt each is cut into parts, so that some can be held out.
    """

    alone: ClassVar[str] = "name"  # the key whose value may stand for all

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
    """The examples of a source, in a fixed order, each checked against its kind.

    Raises UserError at the call for a wrong name, kind or field name, and on the way for a
    faulty row (with file and line) or a source without examples.
    """
    return (example for _, example in placed(config, kind))


def placed(
    config: SourceConfig,
    kind: str,
    columns: Columns | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[tuple[Row, Example]]:
    """The examples as `read` yields them, each with its row.

    Args:
        columns: where the fields stand; default: as the source says.
        left_out: counts the rows that cannot be used.
    """
    columns = columns or columns_of(config, kind)
    kinds.check_fields(f"source {config.name}", kind, columns.fields)
    rows = itertools.chain.from_iterable(read() for read in _readers(config, kind))
    return _examples(config, kind, columns, rows, _excluded(config), left_out or LeftOut())


def pieces(config: SourceConfig) -> list[Callable[..., Iterator[Example]]]:
    """The documents of a source in parts that can be read apart: in order, what `read` yields.

    Each takes a `LeftOut` that counts what cannot be used. A part is a file, or PIECE examples of
    a TFDS set; with `take` all is one part. None is opened before it is called.

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
    """Where the source's fields stand. Raises UserError for a wrong name, kind or field."""
    kinds.check_fields(f"source {config.name}", kind, dict(config.fields))
    _check(config)
    fields, (prefix, rest) = dict(config.fields), _parts(config.name)
    if prefix == "tfds" and not fields:
        known, ours = tfds_source.fields(rest), kinds.KINDS[kind]
        fields = {name: theirs for name, theirs in known.items() if name in ours}
    return Columns(fields, label_names=config.label_names)


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
    # What is not used does not count, so that what was made before it existed stays known.
    whole |= {"excluded by": overlap.RULE} if config.exclude else {}
    whole |= {key: v for key in ("part", "label_names") if (v := getattr(config, key))}
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


def _readers(config: SourceConfig, kind: str) -> list[Reader]:
    """What reads the rows of each file, or of PIECE examples of a TFDS set after another."""
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
    """Of the texts that may not be shared."""
    prints = tuple(fingerprint(SourceConfig(name)) for name in config.exclude)
    return _held_out(config.exclude, prints)


@functools.lru_cache(2)  # the sources of a corpus leave out the same, most of the time
def _held_out(names: tuple[str, ...], _: tuple[str, ...]) -> Grams:
    """Raises UserError for a source that can leave nothing out."""
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
            f"not ids, and by {overlap.WORDS} words at least"
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
    """`whole`: the rows are all of the source's, so that none is an error."""
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
        # Of a corpus blanks are text too, and a document without any is left out by its outline.
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
        raise UserError(f"source {config.name} is empty: there is not one example in it")
    if whole and not count:
        why = [f"percent ({config.percent:g})"] if config.percent < 100 else []
        why += [f"part ({list(config.part)})"] if config.part else []
        reasons = "; ".join([*([" and ".join(why)] if why else []), *left_out.lines()])
        raise UserError(f"source {config.name}: of its {seen} examples none is left: {reasons}")


def _is_chosen(config: SourceConfig, example_id: str) -> bool:
    if config.part and not config.part[0] <= percentile(example_id) < config.part[1]:
        return False
    # Salted: the share must not be the one that `held_out` takes.
    return config.percent == 100.0 or percentile(f"percent {example_id}") < config.percent

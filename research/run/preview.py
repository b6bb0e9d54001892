"""Shows what a model will see: counts, how full the rows are, and rows decoded to text."""

import collections
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from research.config import Config
from research.data import sources
from research.data.batch import Batch
from research.data.left_out import LeftOut
from research.data.loader import Batches
from research.data.sources import SourceConfig
from research.objectives import mixture
from research.objectives.batches import PretrainingBatches, fill
from research.objectives.mixture import MixedBatches, ObjectiveMixture
from research.objectives.objective import Loss
from research.run.run import Run

WIDTH = 96  # characters in a line
BINS = 8
SAMPLE = 500  # number of texts for counting tokens per word
FIELDS = ("text", "text_a", "text_b", "question", "context")  # fields of an example with text


def report(run: Run, rows: int) -> Iterator[str]:
    """Yields the lines of the whole report, with the first `rows` rows of the training batches."""
    yield from _counts(run)
    yield ""
    yield from _tokenizer(run)
    yield ""
    yield from _fill(run)
    yield ""
    shown = 0
    for step in itertools.count():
        batch = run.train.batch(step)
        for row in range(len(batch["tokens"])):
            if shown == rows:
                return
            if batch["segments"][row].any():
                shown += 1
                yield from show_row(batch, row, run)
                yield ""
        if step + 1 == run.train.epoch_batches(0, most=step + 2):
            return


def _counts(run: Run) -> Iterator[str]:
    data = run.config.data
    if run.task is None:
        yield f"corpus ({data.held_out_percent:g} % of its documents held out for validation)"
        for source in data.corpus:
            yield f"  {_describe(source)}"
        # Every kind of attention reads the same documents.
        train, validation = (
            next(iter(part.parts.values())) if isinstance(part, ObjectiveMixture) else part
            for part in (run.train, run.validation)
        )
        if isinstance(train, MixedBatches):
            for source, part, share in zip(
                data.corpus, train.parts, train.counts / mixture.CYCLE, strict=True
            ):
                yield f"  train, {share:.2%} of the rows from {source.name}: {_size(part)}"
        else:
            yield f"  train: {_size(train)}"
        yield f"  validation: {_size(validation)}"
        return
    yield f"examples ({run.task.kind})"
    for name, batches in (("train", run.train), ("validation", run.validation)):
        segments = [segment for group in batches.segments for segment in group]
        tokens = sum(map(len, segments))
        yield f"  {name}: {_describe(getattr(data, name))}"
        examples = len(batches.segments)
        yield f"    {examples:,} examples in {len(segments):,} segments, {tokens:,} tokens"
        yield from (f"    {line}" for line in run.splits[name])
    if data.test is not None:
        yield f"  test: {_describe(data.test)} (not read here)"


def _size(batches: PretrainingBatches) -> str:
    counts = batches.store.counts
    return (
        f"{counts['documents']:,} documents, {counts['sentences']:,} sentences, "
        f"{counts['tokens']:,} tokens, {counts['bytes']:,} bytes, in blocks: {counts['blocks']}; "
        f"duplicates left out: {counts['duplicates']:,}"
    )


def _describe(source: SourceConfig) -> str:
    more = [f"split {source.split}"] if source.split else []
    more += [f"the first {source.take:,}"] if source.take else []
    more += [f"{source.part[0]:g} to {source.part[1]:g} % by hash"] if source.part else []
    more += [f"without texts of {', '.join(source.exclude)}"] if source.exclude else []
    return f"{source.name}{' (' if more else ''}{'; '.join(more)}{')' if more else ''}"


def _names(config: Config) -> tuple[str, ...]:
    return getattr(config.task, "labels", ())


def _tokenizer(run: Run) -> Iterator[str]:
    tokenizer, wanted = run.tokenizer, run.config.tokenizer
    # Only tokens with a role; a trained WordPiece may list single characters as special too.
    roles = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
    ids = {getattr(tokenizer, role) for role in roles} - {None}
    specials = ", ".join(sorted(map(tokenizer.token, ids)))
    origin = {"file": wanted.path, "checkpoint": f"of {run.config.init_from}"}.get(wanted.kind, "")
    yield (
        f"tokenizer: {wanted.kind}{' ' if origin else ''}{origin}, {tokenizer.vocab_size:,} "
        f"entries; special: {specials}"
    )
    texts = list(itertools.islice(_texts(run), SAMPLE))
    encodings = tokenizer.encode_batch(texts)
    tokens = sum(len(e.ids) for e in encodings)
    words = sum(len(text.split()) for text in texts)
    line = f"  {tokens / max(words, 1):.2f} tokens per word in {len(texts):,} texts"
    if tokenizer.unk is not None:
        unknown = sum(int((e.ids == tokenizer.unk).sum()) for e in encodings)
        line += f"; unknown: {unknown / max(tokens, 1):.2%} of the tokens"
    yield line


def _texts(run: Run) -> Iterator[str]:
    data = run.config.data
    chosen = data.corpus if run.task is None else (data.train,)
    kind = "document" if run.task is None else run.task.kind
    for source in chosen:
        rows = sources.placed(source, kind, left_out=LeftOut())
        for _, example in itertools.islice(rows, -(-SAMPLE // len(chosen))):
            yield from (example[name] for name in FIELDS if name in example)
            if "tokens" in example:
                yield " ".join(example["tokens"])
            yield from (message["content"] for message in example.get("messages", ()))


def _fill(run: Run) -> Iterator[str]:
    train = run.train
    of = f"rows of {run.config.data.length} tokens"
    if isinstance(train, MixedBatches | ObjectiveMixture):
        for name, part in _streams(run, train):
            filled = fill(part)
            yield f"{of}{name}: {filled['rows']:,} in an epoch of its own"
            yield from _shape(filled, run)
        yield f"{train.rows} rows in a batch, {train.epoch_batches(0):,} batches in a pass"
        return
    per_batch = train.batch_rows(0)
    if isinstance(train, PretrainingBatches):
        filled = fill(train)
        batches = -(-filled["rows"] // per_batch)
    else:
        batches = train.epoch_batches(0)
        segments = [segment for group in train.segments for segment in group]
        rows = sum(train.batch_rows(step) for step in range(batches))
        filled = {
            "rows": rows,
            "real_tokens": train.fill(),
            "segments_per_row": len(segments) / rows,
            "predictions_per_row": 0.0,
            "lengths": collections.Counter(map(len, segments)),
        }
    yield (
        f"{of}: {filled['rows']:,} in an epoch, {per_batch} in the first batch, {batches:,} batches"
    )
    yield from _shape(filled, run)


def _streams(run: Run, train: Batches) -> Iterator[tuple[str, PretrainingBatches]]:
    """Yields the parts of a mixture, each with a phrase that tells it from the others."""
    if isinstance(train, ObjectiveMixture):
        for pattern, part in train.parts.items():
            first, end, cycle = train.places[pattern]
            share = f" of {pattern} attention, {end - first} of {cycle} rows of a batch"
            yield from ((share + name, each) for name, each in _streams(run, part))
    elif isinstance(train, MixedBatches):
        for source, part in zip(run.config.data.corpus, train.parts, strict=True):
            yield f" from {source.name}", part
    else:
        yield "", train


def _shape(filled: Mapping[str, Any], run: Run) -> Iterator[str]:
    length, predictions = run.config.data.length, filled["predictions_per_row"]
    masked = f", {predictions:.1f} predicted tokens" if predictions else ""
    yield (
        f"  {filled['real_tokens']:.1%} real tokens; a row has {filled['segments_per_row']:.1f} "
        f"segments{masked}"
    )
    yield "  length of a segment, in tokens"
    yield from (f"    {line}" for line in histogram(filled["lengths"], length))


def histogram(lengths: Mapping[int, int], longest: int) -> Iterator[str]:
    """Yields lines with bars: lengths from 1 to `longest` and their counts."""
    edges = np.unique(np.linspace(0, longest, BINS + 1).astype(int))
    counts = [
        sum(n for size, n in lengths.items() if low < size <= high)
        for low, high in itertools.pairwise(edges)
    ]
    width = len(f"{longest}")
    for (low, high), n in zip(itertools.pairwise(edges), counts, strict=True):
        bar = "█" * round(40 * n / max(max(counts), 1))
        yield f"{low + 1:>{width}}-{high:<{width}} {bar}{' ' if bar else ''}{n:,}"


def show_row(batch: Batch, row: int, run: Run) -> Iterator[str]:
    """Yields a row decoded to text, segment by segment.

    Marks: ⟨[MASK] → cat⟩ is masked, ⟨dog → cat⟩ replaced at random, ⟨cat⟩ left unchanged, all three
    to be predicted; ⟨Rome B-LOC⟩ has a tag; ⟦…⟧ is an answer, or the text that a generating model
    learns to write.
    """
    segments = batch["segments"][row]
    real = int((segments > 0).sum())
    number, length, count = int(batch["rows"][row]), len(segments), int(segments.max())
    yield f"row {number}: {real} of {length} tokens, segments: {count}"
    for s in range(count):
        first, last = int(batch["first"][row, s]), int(batch["last"][row, s])
        yield f"  segment {s + 1}, tokens {first} to {last}{_segment_label(batch, row, s, run)}"
        text = " ".join(_pieces(batch, row, s, run))
        yield from textwrap.wrap(
            " ".join(text.split()), WIDTH, initial_indent="    ", subsequent_indent="    "
        )


def _segment_label(batch: Batch, row: int, s: int, run: Run) -> str:
    if run.task is None:
        labels = (objective.describe_segment(batch, row, s) for objective in _of_row(run, row))
        return "".join(f": {label}" for label in labels if label)
    label = f": example {batch['example'][row, s]}"
    if "label" in batch:
        label += f", {_names(run.config)[batch['label'][row, s]]}"
    if "start" in batch and batch["start"][row, s] == batch["first"][row, s]:
        label += ", no answer in it"
    return label


def _pieces(batch: Batch, row: int, s: int, run: Run) -> Iterator[str]:
    """Yields the text of a segment, interrupted by marks."""
    tokens = batch["tokens"][row]
    marks = _tags(batch, row, run) if _names(run.config) else {}
    for objective in _of_row(run, row):
        marks |= objective.token_marks(batch, row, run.tokenizer)
    opening, closing = _bracket(batch, row, s, run)
    plain: list[int] = []

    def text() -> str:
        ids, plain[:] = list(plain), []
        return run.tokenizer.decode(ids, skip_special=False)

    for place in range(int(batch["first"][row, s]), int(batch["last"][row, s]) + 1):
        if place == opening:
            yield from (text(), "⟦")
        if place in marks:
            yield from (text(), f"⟨{marks[place]}⟩")
        else:
            plain.append(int(tokens[place]))
        if place == closing:
            yield from (text(), "⟧")
    yield text()


def _of_row(run: Run, row: int) -> list[Loss]:
    """Returns the objectives that learn from a row of a batch."""
    return [o for o in run.objectives if o.rows[0] <= row % o.rows[2] < o.rows[1]]


def _tags(batch: Batch, row: int, run: Run) -> dict[int, str]:
    """Returns position -> the token and its tag, for tags other than "O"."""
    tags: dict[int, str] = {}
    if "targets" not in batch:
        return tags
    for place in np.flatnonzero(batch["target_weights"][row]):
        tag = _names(run.config)[batch["targets"][row, place]]
        if tag != "O":
            tags[int(place)] = f"{run.tokenizer.token(batch['tokens'][row, place])} {tag}"
    return tags


def _bracket(batch: Batch, row: int, s: int, run: Run) -> tuple[int, int]:
    """Returns the first and last position of an answer or of the text to generate, or (-1, -1)."""
    first, last = int(batch["first"][row, s]), int(batch["last"][row, s])
    if "start" in batch and batch["start"][row, s] > first:
        return int(batch["start"][row, s]), int(batch["end"][row, s])
    if run.task is not None and run.task.prompt is not None:
        learnt = np.flatnonzero(batch["target_weights"][row, first : last + 1])
        if len(learnt) and first + learnt[0] < last:
            return first + int(learnt[0]) + 1, last
    return -1, -1

"""Turns the config's sources into a tokenizer and batches."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from research import tasks
from research.config import Config
from research.config.schema import TrainConfig
from research.data import checksums, kinds, sources, store
from research.data import tokenizer as tokenizers
from research.data.config import DataConfig, TokenizerConfig
from research.data.left_out import LeftOut
from research.data.loader import Batches
from research.data.sources import SourceConfig
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.objectives import for_evaluation, mixture
from research.objectives.batches import PretrainingBatches
from research.objectives.mixture import MixedBatches, ObjectiveMixture
from research.objectives.objective import Objective, by_pattern, row_layout
from research.tasks.batches import TaskBatches
from research.tasks.task import Example, Task

TOKENIZER_FORMAT = 1  # raise it when the same texts would give another tokenizer
TOKENIZER_BYTES = 1 << 30  # at most this many UTF-8 bytes of text train a tokenizer
LABELS = 30  # at most this many labels are listed
EVAL_SEED = 20_181_011  # every evaluation draws its masks from it

Stream = PretrainingBatches | MixedBatches


@dataclasses.dataclass(frozen=True)
class Data:
    """Batches of both splits. `key` fingerprints their sources and tokenizer, `measured_key` the
    sources of `validation` alone. For a task also: `splits`, lines for people on how each split
    was read, and the examples of `validation`."""

    train: Batches
    validation: Batches
    key: str
    measured_key: str = ""
    splits: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    validation_examples: list[Example] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of a task's split.

    name: "train", "validation" or "test"; places: file and line of each example, for messages.
    columns: our name -> the source's, from the first row; read_as: the format, for people.
    left_out: the rows that are not used.
    """

    name: str
    source: SourceConfig
    examples: list[Example]
    places: list[str]
    columns: Mapping[str, str]
    read_as: str
    left_out: LeftOut

    def lines(self) -> list[str]:
        """Lines for people: the columns read, the labels, the rows left out."""
        columns = (o if o == c else f"{c} as {o}" for o, c in self.columns.items() if o != "id")
        lines = [f"read{' as ' if self.read_as else ''}{self.read_as}: {', '.join(columns)}"]
        if counts := label_counts(self.examples):
            shown = [f"{label} {count:,}" for label, count in sorted(counts.items())]
            lines.append(f"labels: {', '.join(shown[:LABELS])}")
            if len(shown) > LABELS:
                lines[-1] += f", … ({len(shown):,} of them)"
        return lines + self.left_out.lines()


def make_tokenizer(config: TokenizerConfig, data: DataConfig) -> Tokenizer:
    """Trains a tokenizer on the training split of `data.corpus`, or reads it from the cache.

    It learns from the first TOKENIZER_BYTES of the documents, one of each source in turn: more
    text does not improve a vocabulary, and the texts are held in memory.

    Raises UserError for a trained kind without a corpus.
    """
    if config.kind == "bytes":
        return trained(config, ())
    if not data.corpus:
        raise UserError(
            f"config.tokenizer.kind={config.kind!r} is trained on config.data.corpus, which is "
            "empty; give a corpus, or take another tokenizer (kind 'file', 'checkpoint', 'bytes')"
        )
    parts = [sources.fingerprint(s) for s in data.corpus]
    parts.append(f"{config} {data.held_out_percent} {TOKENIZER_FORMAT}")
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    path = Path(data.cache) / "tokenizers" / f"{key}.json"

    def read() -> Tokenizer:
        return Tokenizer.from_json(path.read_text(encoding="utf-8"))

    def make() -> None:
        documents = store.documents(data.corpus, data.held_out_percent, "train")
        text = trained(config, _first_bytes(d["text"] for d in documents)).to_json()
        path.parent.mkdir(parents=True, exist_ok=True)
        checksums.save(path, lambda part: part.write_text(text, encoding="utf-8"))

    if not path.exists():
        make()
    checksums.mend(path, make, lambda: read() and "")
    return read()


def trained(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Trains a tokenizer of the config's kind; one of bytes learns nothing."""
    if config.kind == "bytes":
        return tokenizers.byte_tokenizer()
    if config.kind == "wordpiece":
        return tokenizers.train_wordpiece(texts, config.vocab_size, config.lowercase)
    if config.kind == "byte_bpe":
        return tokenizers.train_byte_bpe(texts, config.vocab_size)
    return tokenizers.characters(texts)


def _first_bytes(texts: Iterable[str]) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text.encode())
        if size >= TOKENIZER_BYTES:
            return


def batch_rows(data: DataConfig, train: TrainConfig, cycle: int, mesh_rows: int) -> int:
    """Returns the rows of a pre-training batch. Raises UserError if they do not divide evenly.

    Args:
        cycle: number of rows after which a mixture's kinds of attention repeat (`Objective.rows`).
        mesh_rows: number of devices that rows are split over.
    """
    rows = train.batch_size // data.length
    if rows % (mesh_rows * train.accumulation * cycle):
        mixed = f" x {cycle} rows of a mixture (config.objective.rows)" if cycle > 1 else ""
        raise UserError(
            f"config.train.batch_size={train.batch_size} tokens is {rows} rows of {data.length}, "
            f"which {mesh_rows} devices x config.train.accumulation={train.accumulation}{mixed} do "
            f"not divide; a multiple of {data.length * mesh_rows * train.accumulation * cycle} does"
        )
    return rows


def check_pretraining(
    data: DataConfig,
    train: TrainConfig,
    objectives: Sequence[Objective],
    tokenizer: Tokenizer,
    mesh_rows: int,
) -> int:
    """Returns the rows of a batch. Raises UserError for rows, special tokens or source weights that
    do not fit, before anything is tokenised."""
    for objective in objectives:
        objective.check_tokenizer(tokenizer)
    if data.weights:
        mixture.shares(data.weights, [source.name for source in data.corpus])
    return batch_rows(data, train, objectives[0].rows[2], mesh_rows)


def pretraining(
    data: DataConfig,
    train: TrainConfig,
    objectives: Sequence[Objective],
    seed: int,
    tokenizer: Tokenizer,
    mesh_rows: int,
    quiet: bool,
) -> Data:
    """Builds the batches of the corpus's two splits.

    Args:
        mesh_rows: number of devices that rows are split over.

    Raises UserError as `check_pretraining` does.
    """
    rows = check_pretraining(data, train, objectives, tokenizer, mesh_rows)
    planned = jobs(data, tokenizer)
    *stores, validation = [job.build(quiet) for job in planned]
    measured = [*planned[-1].fingerprints, f"{data.held_out_percent}"]

    def stream(group: Sequence[Objective], rows: int, kind: str) -> Stream:
        shape = (group, data.length, data.segments)
        own = f"{seed} {kind}" if kind else seed
        if not data.weights:
            return PretrainingBatches(stores[0], tokenizer, *shape, rows, own)
        parts = [
            PretrainingBatches(store, tokenizer, *shape, 1, f"{own} source {number}")
            for number, store in enumerate(stores)
        ]
        shares = mixture.shares(data.weights, [source.name for source in data.corpus])
        return MixedBatches(parts, shares, rows, own)

    return Data(
        _mixed(objectives, rows, data, stream),
        evaluation_batches(data, train, objectives, tokenizer, validation, mesh_rows),
        " ".join(store.key for store in (*stores, validation)),
        hashlib.sha256("\n".join(measured).encode()).hexdigest(),
    )


def jobs(data: DataConfig, tokenizer: Tokenizer) -> list[store.Job]:
    """Returns the jobs of a corpus's token stores: training split first, validation split last.

    With weights each source has its own training store, so that new weights need no new stores;
    the validation split has one store of all sources, the same for any weights.
    """
    common = (data.held_out_percent, tokenizer, data.cache)
    each = range(len(data.corpus)) if data.weights else (None,)
    train = [store.Job(data.corpus, "train", *common, only) for only in each]
    return [*train, store.Job(data.corpus, "validation", *common)]


def evaluation_batches(
    data: DataConfig,
    train: TrainConfig,
    objectives: Sequence[Objective],
    tokenizer: Tokenizer,
    corpus: store.Store,
    mesh_rows: int,
    source: int | None = None,
) -> PretrainingBatches | ObjectiveMixture:
    """Returns the batches of an evaluation: in order, with masks that no run's seed changes.

    A batch has the rows of a micro-batch, so what fits in memory in training fits here.

    source: index of the only source to measure; default: all of them.
    """
    objectives = for_evaluation(objectives)
    multiple = mesh_rows * objectives[0].rows[2]
    rows = train.batch_size // data.length // train.accumulation
    rows = max(multiple, rows // multiple * multiple)

    def split(group: Sequence[Objective], rows: int, kind: str) -> PretrainingBatches:
        shape = (group, data.length, data.segments, rows, EVAL_SEED)
        return PretrainingBatches(corpus, tokenizer, *shape, shuffle=False, source=source)

    return _mixed(objectives, rows, data, split, once=True)


def _mixed(
    objectives: Sequence[Objective],
    rows: int,
    data: DataConfig,
    stream: Callable[[Sequence[Objective], int, str], Stream],
    once: bool = False,
) -> Stream | ObjectiveMixture:
    """Returns batches of `rows` rows of all objectives, which take turns by kind of attention if
    there are several kinds.

    stream: (objectives of one kind, rows of a batch, the kind or "" if it is the only one).
    """
    groups = by_pattern(objectives)
    if len(groups) == 1:
        return stream(objectives, rows, "")
    parts = {kind: stream(group, 1, kind) for kind, group in groups.items()}
    places = {kind: group[0].rows for kind, group in groups.items()}
    layout = row_layout(objectives, data.length, data.segments)
    return ObjectiveMixture(parts, places, rows, layout, once)


def split(data: DataConfig, kind: str, name: str) -> Split:
    """Reads the examples of a kind in a "train", "validation" or "test" split.

    A split without `fields` or `label_names` takes those of `train`, as far as it has the columns.
    """
    source = data.source(name)
    columns, left_out = sources.columns_of(source, kind), LeftOut()
    train = data.train or source  # an imported checkpoint was trained on nothing that is known
    if not source.fields:
        columns = dataclasses.replace(columns, others=dict(train.fields))
    if not source.label_names:
        columns = dataclasses.replace(columns, label_names=train.label_names)
    placed = list(sources.placed(source, kind, columns, left_out))
    first = placed[0][0]
    return Split(
        name,
        source,
        [example for _, example in placed],
        [row.where for row, _ in placed],
        kinds.wanted(first, kind, columns, labelled=True),
        first.read_as,
        left_out,
    )


def label_counts(examples: Iterable[Example]) -> Counter[str]:
    """Counts each label, or tag, in the examples."""
    return Counter(label for example in examples for label in kinds.labels_in(example))


def with_labels(config: Config, before: Sequence[str] = ()) -> Config:
    """Fills in labels=auto: the source's `label_names` in their order, or else the labels of the
    training examples, sorted.

    before: labels of the checkpoint to start from; if the set is the same, their order is kept.

    Raises UserError if nearly every example has its own label.
    """
    if getattr(config.task, "labels", ()) != tasks.AUTO:
        return config
    names = config.data.train.label_names
    if not names:
        train = split(config.data, tasks.kind_of(config.task), "train")
        names = tuple(sorted(label_counts(train.examples)))
        if len(names) > max(LABELS, len(train.examples) / 2):
            raise UserError(
                f"config.task.labels={tasks.AUTO}: {train.source.name} has {len(names):,} "
                f"different labels in {len(train.examples):,} examples, such as {names[0]!r:.60}; "
                'name another column: --config.data.train.fields=\'{"label": "…"}\''
            )
    names = tuple(before) if sorted(before) == sorted(names) else names
    return dataclasses.replace(config, task=dataclasses.replace(config.task, labels=names))


def task_segments(task: Task, part: Split, every: int = 1) -> list:
    """Returns the segments of each example of a split. Raises UserError, with its file and line,
    for an example that does not fit.

    Args:
        every: only each `every`-th example is cut.
    """
    segments = []
    for number in range(0, len(part.examples), every):
        try:
            segments.append(task.segments(part.examples[number], number, True))
        except UserError as error:
            where = f"config.data.{part.name}={part.source.name}: {part.places[number]}"
            raise UserError(f"{where}: {error}") from error
    return segments


def for_task(
    data: DataConfig,
    train: TrainConfig,
    task: Task,
    seed: int,
    tokenizer: Tokenizer,
    mesh_rows: int,
    quiet: bool,
) -> Data:
    """Builds the batches of a task's training and validation examples, held in memory."""
    batches, lines = [], {}
    for name, shuffle in (("train", True), ("validation", False)):
        part = split(data, task.kind, name)
        segments = task_segments(task, part)
        lines[name] = part.lines()
        if not quiet:
            print("".join(f"{name}: {line}\n" for line in part.left_out.lines()), end="")
        # An evaluation takes a micro-batch's examples: what fits in training fits there too.
        cut = 1 if shuffle else train.accumulation
        size = max(1, train.batch_size // cut)
        multiple = mesh_rows * train.accumulation // cut
        batches.append(
            TaskBatches(segments, task.layout, tokenizer.pad, size, seed, shuffle, multiple)
        )
    parts = [sources.fingerprint(data.train), sources.fingerprint(data.validation)]
    key = json.dumps([*parts, tokenizer.fingerprint()])
    return Data(
        *batches, hashlib.sha256(key.encode()).hexdigest()[:16], parts[1], lines, part.examples
    )

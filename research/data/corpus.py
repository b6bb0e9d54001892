"""From the config's sources to a tokenizer and to batches."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from research import objectives
from research.data import mixture, sources, store
from research.data import pretraining as pretraining_batches
from research.data import tokenizer as tokenizers
from research.data.config import DataConfig, TokenizerConfig
from research.data.loader import Batches
from research.data.mixture import MixedBatches
from research.data.objective_mixture import ObjectiveMixture
from research.data.pretraining import PretrainingBatches
from research.data.sources import SourceConfig
from research.data.task_batches import TaskBatches
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.objectives import ObjectivesConfig
from research.tasks.protocol import Example, Task

if TYPE_CHECKING:
    from research.config import Config

TOKENIZER_FORMAT = 1  # raise it when the same texts would give another tokenizer
TOKENIZER_BYTES = 1 << 30  # UTF-8 bytes of text that a tokenizer is trained on at most
EVAL_SEED = 20_181_011  # of the masks that every evaluation draws

Stream = PretrainingBatches | MixedBatches


@dataclasses.dataclass(frozen=True)
class Data:
    """Batches of both splits; `key` is the fingerprint of what they are made from."""

    train: Batches
    validation: Batches
    key: str


def make_tokenizer(config: TokenizerConfig, data: DataConfig) -> Tokenizer:
    """The tokenizer trained on the training split of `data.corpus`, from the cache or now.

    It learns from the first TOKENIZER_BYTES of the documents, one of each source in turn: a
    vocabulary does not get better with more, and the texts are held in memory.

    Raises UserError for a kind that is trained where there is no corpus.
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
    if path.exists():
        return Tokenizer.from_json(path.read_text())
    texts = _first_bytes(
        e["text"] for e in store.documents(data.corpus, data.held_out_percent, "train")
    )
    made = trained(config, texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    store.replace(path, lambda part: part.write_text(made.to_json()))
    return made


def trained(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of the kind that a config asks for; one of bytes learns nothing."""
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


def batch_rows(config: "Config", mesh_rows: int) -> int:
    """Rows of a pre-training's batch. Raises UserError where they do not divide."""
    data, train = config.data, config.train
    rows = train.batch_size // data.length
    cycle = _cycle(config)
    if rows % (mesh_rows * train.accumulation * cycle):
        mixed = f" x {cycle} rows of a mixture (config.objective.rows)" if cycle > 1 else ""
        raise UserError(
            f"config.train.batch_size={train.batch_size} tokens is {rows} rows of {data.length}, "
            f"which {mesh_rows} devices x config.train.accumulation={train.accumulation}{mixed} do "
            f"not divide; a multiple of {data.length * mesh_rows * train.accumulation * cycle} does"
        )
    return rows


def _cycle(config: "Config") -> int:
    """Rows after which the kinds of attention of a mixture of objectives come again."""
    return next(iter(objectives.places(config.objective).values()))[2]


def pretraining(config: "Config", tokenizer: Tokenizer, mesh_rows: int, quiet: bool) -> Data:
    """Batches of the corpus's two splits.

    Args:
        mesh_rows: devices that rows are split over.

    Raises UserError where the rows of a batch do not divide.
    """
    data, rows = config.data, batch_rows(config, mesh_rows)
    pretraining_batches.check_tokenizer(config.objective, tokenizer)
    if data.weights:  # before anything is tokenised
        counts = mixture.shares(data.weights, [source.name for source in data.corpus])
    *train, validation = [job.build(quiet) for job in jobs(data, tokenizer)]

    def stream(goal: ObjectivesConfig, rows: int, seed: int | str) -> Stream:
        shape = (goal, data.length, data.slots)
        if not data.weights:
            return PretrainingBatches(train[0], tokenizer, *shape, rows, seed)
        parts = [
            PretrainingBatches(made, tokenizer, *shape, 1, f"{seed} source {number}")
            for number, made in enumerate(train)
        ]
        return MixedBatches(parts, counts, rows, seed)

    goal = config.objective
    if len(objectives.patterns(goal)) == 1:
        batches = stream(goal, rows, config.seed)
    else:
        parts = {
            pattern: stream(objectives.only(goal, pattern), 1, f"{config.seed} {pattern}")
            for pattern in objectives.patterns(goal)
        }
        layout = pretraining_batches.row_layout(goal, data.length, data.slots)
        batches = ObjectiveMixture(parts, objectives.places(goal), rows, layout)
    return Data(
        batches,
        evaluation_batches(config, tokenizer, validation, mesh_rows),
        " ".join(made.key for made in (*train, validation)),
    )


def jobs(data: DataConfig, tokenizer: Tokenizer) -> list[store.Job]:
    """The token stores of a corpus: of its training split, then of its validation split.

    With weights each source has a training store of its own, so that other weights need no other
    stores; what is held out is one set of all sources, the same for any weights.
    """
    common = (data.held_out_percent, tokenizer, data.cache)
    each = range(len(data.corpus)) if data.weights else (None,)
    train = [store.Job(data.corpus, "train", *common, only) for only in each]
    return [*train, store.Job(data.corpus, "validation", *common)]


def evaluation_batches(
    config: "Config", tokenizer: Tokenizer, corpus: store.Store, mesh_rows: int
) -> PretrainingBatches | ObjectiveMixture:
    """A split as it is measured: in order, with masks that no run's seed changes.

    Its batches are of a micro-batch's rows: what fits in training fits in evaluation.
    """
    goal, data, train = objectives.for_evaluation(config.objective), config.data, config.train
    multiple = mesh_rows * _cycle(config)
    rows = train.batch_size // data.length // train.accumulation
    rows = max(multiple, rows // multiple * multiple)

    def split(goal: ObjectivesConfig, rows: int) -> PretrainingBatches:
        shape = (goal, data.length, data.slots, rows, EVAL_SEED)
        return PretrainingBatches(corpus, tokenizer, *shape, shuffle=False)

    if len(objectives.patterns(goal)) == 1:
        return split(goal, rows)
    parts = {p: split(objectives.only(goal, p), 1) for p in objectives.patterns(goal)}
    layout = pretraining_batches.row_layout(goal, data.length, data.slots)
    return ObjectiveMixture(parts, objectives.places(goal), rows, layout, once=True)


def examples(source: SourceConfig, kind: str) -> list[Example]:
    """All examples of a task's split."""
    return list(sources.read(source, kind))


def task_slots(task: Task, split: str, source: SourceConfig, found: list[Example]) -> list:
    """The slots of each of a split's examples. Raises UserError for one that does not fit."""
    try:
        return [task.slots(e, i, True) for i, e in enumerate(found)]
    except UserError as error:
        raise UserError(f"config.data.{split}={source.name}: {error}") from error


def for_task(config: "Config", task: Task, tokenizer: Tokenizer, mesh_rows: int) -> Data:
    """Batches of a task's training and validation examples, held in memory."""
    data, train = config.data, config.train
    made = []
    for split, source, shuffle in (
        ("train", data.train, True),
        ("validation", data.validation, False),
    ):
        slots = task_slots(task, split, source, examples(source, task.kind))
        # An evaluation has a micro-batch's examples: what fits in training fits there too.
        cut = 1 if shuffle else train.accumulation
        size = max(1, train.batch_size // cut)
        multiple = mesh_rows * train.accumulation // cut
        made.append(
            TaskBatches(slots, task.layout, tokenizer.pad, size, config.seed, shuffle, multiple)
        )
    parts = [sources.fingerprint(data.train), sources.fingerprint(data.validation)]
    key = json.dumps([*parts, tokenizer.fingerprint()])
    return Data(made[0], made[1], hashlib.sha256(key.encode()).hexdigest()[:16])

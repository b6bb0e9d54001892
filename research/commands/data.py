"""`launch.py data`."""

import itertools
import re
from collections.abc import Iterator

import numpy as np

from research import config as configs
from research.checkpoints import lineage
from research.config import Config
from research.data import kinds, overlap
from research.data.overlap import Grams
from research.data.store import Job
from research.errors import UserError
from research.run import corpus
from research.run import preview as inspect
from research.run.manifest import resolve
from research.run.run import Run, build

ROWS = 3  # shown by default
COMPARED = 1 << 28  # characters of a source to compare; takes a minute or two


def run(
    config: str,
    overrides: dict[str, str],
    rows: int | None = None,
    shard: str | None = None,
    beam: str | None = None,
) -> int:
    """Builds tokenizer, token store and row plan as `train` does, and prints them.

    With `shard` or `beam` it only builds (a part of) the token stores.
    """
    if sum(flag is not None for flag in (rows, shard, beam)) > 1:
        raise UserError("data: --rows, --shard and --beam exclude each other; give one")
    part = None if shard is None else parsed(shard)
    loaded = configs.load(config, overrides)
    if part is None and beam is None:
        built, shown = build(loaded), ROWS if rows is None else rows
        for line in itertools.chain(inspect.report(built, shown), overlaps(built)):
            print(line)
        return 0
    if loaded.task is not None:
        raise UserError("data: --shard and --beam tokenise a corpus; a task has examples instead")
    if part is not None:
        make_shard(loaded, *part)
    else:
        from research.data import beam as on_beam

        on_beam.make(_jobs(loaded), beam)
    return 0


def overlaps(run: Run) -> Iterator[str]:
    """Yields how much of a task's held-out splits also occurs in its training split, and in the
    texts that its initial weights were trained on."""
    if run.task is None:
        return
    data, start, notes = run.config.data, run.config.init_from, []
    texts = {}
    for split in ("validation", *["test"] * (data.test not in (None, data.validation))):
        try:
            texts[split] = _texts(run, split)
        except UserError as error:
            notes.append(f"{split}: {error}")
    grams = Grams.of(text for split in texts.values() for example in split for text in example)
    located = {split: list(map(grams.places_of, held)) for split, held in texts.items()}
    train = grams.seen(text for example in _texts(run, "train") for text in example)
    elsewhere = {"the training split": [train]}
    for entry in lineage.of_start(run.config):
        try:
            seen = grams.seen(_first(lineage.texts(entry), notes))
            elsewhere.setdefault(f"what {start} has read", []).append(seen)
        except UserError as error:
            notes.append(f"{error}")
    yield f"overlap of held-out examples, in {overlap.WORDS}-grams of words"
    for split, examples in located.items():
        for place, each in elsewhere.items():
            shared = overlap.count(examples, np.any(each, axis=0))
            yield f"  {split} and {place}: {shared}"
            if shared.percent > overlap.WARNED:
                yield (
                    f"  warning: that is more than {overlap.WARNED} % of the examples; their score "
                    "may measure memorisation"
                )
    yield from (f"  not compared: {note}" for note in notes)


def _texts(run: Run, split: str) -> list[list[str]]:
    examples = corpus.split(run.config.data, run.task.kind, split).examples
    return [list(kinds.texts(example)) for example in examples]


def _first(texts: Iterator[str], notes: list[str]) -> Iterator[str]:
    """Yields about the first COMPARED characters of a source; notes what is left out."""
    size = 0
    for text in texts:
        if size > COMPARED:
            notes.append(f"the text after the first {size:,} characters of a source")
            return
        size += len(text)
        yield text


def parsed(shard: str) -> tuple[int, int]:
    """Parses "2/8" to (2, 8). Raises UserError if it is not a shard."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    index, count = map(int, match.groups()) if match else (0, 0)
    if index >= count:
        raise UserError(
            f"data: --shard={shard} must be I/N, with I from 0 to N - 1: --shard=0/2 and "
            "--shard=1/2 are two halves"
        )
    return index, count


def make_shard(config: Config, index: int, count: int) -> None:
    """Builds the blocks of one shard of each store, and prints what is still missing."""
    for job in _jobs(config):
        missing = job.make(index, count)
        print(f"{job.name}: {job.path}: {_state(job, missing)}", flush=True)


def _jobs(config: Config) -> list[Job]:
    manifest = resolve(config)
    return corpus.jobs(manifest.config.data, manifest.tokenizer)


def _state(job: Job, missing: list[int]) -> str:
    if missing:
        return f"{len(missing)} of {job.block_count()} blocks are left to the other shards"
    counts = job.opened().counts
    return (
        f"whole: {counts['blocks']:,} blocks, {counts['documents']:,} documents, "
        f"{counts['tokens']:,} tokens, {counts['duplicates']:,} duplicates left out"
    )

"""`launch.py data`."""

import re

from research import config as configs
from research.commands.numbers import whole
from research.config import Config
from research.data import corpus, inspect
from research.data.store import Job
from research.errors import UserError
from research.training.run import build, resolve

ROWS = 3  # that are shown where nothing else is asked


def run(
    config: str,
    overrides: dict[str, str],
    rows: str | None = None,
    shard: str | None = None,
    beam: str | None = None,
) -> int:
    """Builds tokenizer, token store and row plan as a training would, and shows them.

    With `shard` or `beam` it makes (a part of) the token stores and shows nothing else.
    """
    if sum(flag is not None for flag in (rows, shard, beam)) > 1:
        raise UserError("data: --rows, --shard and --beam are three different things; give one")
    count = ROWS if rows is None else whole("rows", rows, least=0)
    part = None if shard is None else parsed(shard)
    loaded = configs.load(config, overrides)
    if part is None and beam is None:
        for line in inspect.report(build(loaded), count):
            print(line)
        return 0
    if loaded.task is not None:
        raise UserError("data: --shard and --beam tokenise a corpus; a task's examples are no one")
    if part is not None:
        make_shard(loaded, *part)
    else:
        from research.data import beam as on_beam

        on_beam.make(_jobs(loaded), beam)
    return 0


def parsed(shard: str) -> tuple[int, int]:
    """(2, 8) of "2/8". Raises UserError for what is none."""
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    index, count = map(int, found.groups()) if found else (0, 0)
    if index >= count:
        raise UserError(
            f"data: --shard={shard} must be I/N, with I from 0 to N - 1: --shard=0/2 and "
            "--shard=1/2 are two halves"
        )
    return index, count


def make_shard(config: Config, index: int, count: int) -> None:
    """Makes the blocks of one shard of each store, and says what is missing then."""
    for job in _jobs(config):
        missing = job.make(index, count)
        print(f"{job.name}: {job.path}: {_state(job, missing)}", flush=True)


def _jobs(config: Config) -> list[Job]:
    config, tokenizer = resolve(config)
    return corpus.jobs(config.data, tokenizer)


def _state(job: Job, missing: list[int]) -> str:
    if missing:
        return f"{len(missing)} of {job.block_count()} blocks are left to the other shards"
    counts = job.opened().counts
    return (
        f"whole: {counts['blocks']:,} blocks, {counts['documents']:,} documents, "
        f"{counts['tokens']:,} tokens, {counts['duplicates']:,} duplicates left out"
    )

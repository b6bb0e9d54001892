"""Builds token stores with an Apache Beam pipeline, whose workers share a file system.

Beam distributes the parts of `store.Job`, and repeats those that a worker lost.
"""

import shlex
from collections.abc import Iterator, Sequence

from research.data.store import Job
from research.errors import UserError

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ModuleNotFoundError as error:
    raise UserError(
        "data: --beam needs the package apache-beam: python -m pip install 'research-lm[beam]' "
        "(of a checkout: python -m pip install -e '.[beam]')"
    ) from error

TOGETHER = 16  # successive blocks per worker, whose files are opened once


def make(jobs: Sequence[Job], options: str) -> None:
    """Builds stores.

    Args:
        options: Beam's pipeline options, as on a command line: "--runner=DirectRunner …".
    """
    for job in jobs:
        if job.opened():
            continue
        # One chain of maps: on Dask, Beam (2.77) silently loses what a DoFn yields in
        # finish_bundle, tagged outputs, and all branches but the last.
        with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
            outlined = (
                pipeline
                | "pieces" >> beam.Create(job.pieces)
                | "spread pieces" >> beam.Reshuffle()
                | "outline" >> beam.MapTuple(job.make_outline)
                | "all outlined" >> beam.combiners.Count.Globally()
            )
            (
                outlined
                | "arrange" >> beam.FlatMap(_spans, job)
                | "spread blocks" >> beam.Reshuffle()
                | "tokenise" >> beam.Map(_make_blocks, job)
            )
        counts = job.mark_whole().counts
        print(
            f"{job.name}: {job.path}: whole: {counts['blocks']:,} blocks, "
            f"{counts['tokens']:,} tokens, {counts['duplicates']:,} duplicates left out"
        )


def _spans(_: int, job: Job) -> Iterator[tuple[int, int]]:
    """Yields runs of blocks, once the outlines of all pieces exist."""
    count = job.block_count()
    for start in range(0, count, TOGETHER):
        yield start, min(count, start + TOGETHER)


def _make_blocks(span: tuple[int, int], job: Job) -> None:
    for _ in job.make_blocks(range(*span)):
        pass

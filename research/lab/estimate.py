"""Estimates steps, tokens and hours of each run of an experiment before it starts."""

import dataclasses
import functools
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from research import tasks
from research.config import Config
from research.data.batch import Layout
from research.lab import checks
from research.lab.experiment import Job
from research.lab.reports.sheets import Sheet
from research.lab.workers import lanes as sharing
from research.models.config import ModelConfig
from research.monitoring.progress import duration
from research.objectives import make_objectives
from research.objectives.objective import row_layout
from research.run import corpus, flops
from research.tasks.task import Example

SHARES = (0.5, 0.1)  # fractions of the matmul peak; training on CPU was seen to reach 0.1 to 0.47
OVERHEAD = (10.0, 60.0)  # seconds that a run takes to start, compile, save and end
SECONDS_OF_PEAK = 1.0  # duration of the machine's measurement
TOKENS_OF_A_WORD = 1.4
NOTE = (
    "Hours assume {fast:.0%} to {slow:.0%} of the speed at which this machine, as busy as it is "
    "now, multiplies large matrices of the model's dtype, shared by {lanes} at a time, and "
    "{low:.0f} to {high:.0f} s for each run to start, compile and save. They include evaluations "
    "of known size, but not training a tokenizer or tokenising a corpus. Unfinished runs count in "
    "full. Tokens of tasks are estimated from their words."
)
UNKNOWN = "?"
Range = tuple[float, float]
# (config, split) -> examples of the config's task; each source is read once.
Reader = Callable[[Config, str], list[Example]]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimate of one run; None if the run's length is a number of epochs of a corpus that was
    not read. FLOPs include evaluations and scoring the test split."""

    steps: int | None
    tokens: int | None
    flops: float | None


def table(
    jobs: list[Job],
    planned: list[Job],
    state: Callable[[Job], str],
    parallel: int = 1,
    devices: int = 0,
) -> Sheet:
    """Returns a table of the runs, their starts and their estimates.

    Args:
        planned: all jobs of the experiment, of which `jobs` are chosen.
        state: the state of a job; "finished" jobs are not added up.
        parallel, devices: runs at a time, and devices of each, as in `lanes.count`.
    """
    models = {job.run: m.config.model for job, m in checks.manifests_of(jobs, planned)}
    left = [job for job in jobs if state(job) != "finished"]
    lanes = max(1, min(parallel, len(left)))
    part = sharing.part(lanes, devices)
    peak = functools.cache(lambda dtype: part * flops.matmul_peak(dtype, SECONDS_OF_PEAK))
    read: dict[str, list[Example]] = {}
    rows, seconds, tokens = [], {}, 0

    def examples(config: Config, split: str) -> list[Example]:
        if (key := repr((config.data.source(split), config.data.train))) not in read:
            read[key] = corpus.split(config.data, tasks.kind_of(config.task), split).examples
        return read[key]

    for job in jobs:
        model = models[job.run]
        work = _estimate(job, model, examples)
        seconds[job.workdir] = _seconds(work, peak(model.dtype))
        tokens += (work.tokens or 0) if job in left else 0
        start = job.after.name if job.after else job.config.init_from
        shown = [UNKNOWN if n is None else f"{n:,}" for n in (work.steps, work.tokens)]
        took = seconds[job.workdir]
        rows.append([job.workdir.name, start, *shown, _hours(took), state(job)])
    known = [job for job in left if seconds[job.workdir]]
    whole = tuple(
        makespan(known, {job.workdir: seconds[job.workdir][end] for job in known}, lanes)
        for end in (0, 1)
    )
    more = "more than " if len(known) < len(left) else ""
    rows.append(["to run", "", "", f"{tokens:,}", more + _hours(whole), ""])
    header = ["run", "starts from", "steps", "tokens", "hours", "state"]
    (fast, slow), (low, high) = SHARES, OVERHEAD
    note = NOTE.format(fast=fast, slow=slow, lanes=lanes, low=low, high=high)
    total = f"The whole takes {more}{duration(whole[0])} to {duration(whole[1])}, {lanes} at a time"
    return Sheet("Runs", header, rows, f"{total}. {note}")


def makespan(jobs: Sequence[Job], seconds: Mapping[Path, float], lanes: int) -> float:
    """Returns the seconds until all jobs are done, if they start as in the runner: in order, once
    the run that a job starts from is done and a lane is free."""
    now, waiting, coming = 0.0, list(jobs), {job.workdir for job in jobs}
    running: list[tuple[float, Path]] = []
    while waiting or running:
        for job in list(waiting):
            if len(running) < lanes and job.after not in coming:
                waiting.remove(job)
                heapq.heappush(running, (now + seconds[job.workdir], job.workdir))
        now, done = heapq.heappop(running)
        coming.remove(done)
    return now


def _seconds(work: Estimate, peak: float) -> Range | None:
    if work.flops is None:
        return None
    fast, slow = (
        work.flops / (share * peak) + more for share, more in zip(SHARES, OVERHEAD, strict=True)
    )
    return fast, slow


def _hours(seconds: Range | None) -> str:
    return " to ".join(f"{end / 3600:.3f}" for end in seconds) if seconds else UNKNOWN


def _estimate(job: Job, model: ModelConfig, examples: Reader) -> Estimate:
    if job.config.task is None:
        return _pretraining(job, model)
    config, train, length = job.config, job.config.train, job.config.data.length
    kind = tasks.kind_of(config.task)
    # An example longer than a row is cut, except in tasks that split it into windows.
    most = math.inf if kind in ("tokens", "question", "story", "chat") else length

    def tokens_of(split: str) -> tuple[int, float]:
        """Returns the number of examples in a split and their mean number of tokens."""
        words = [min(_words(e) * TOKENS_OF_A_WORD, most) for e in examples(config, split)]
        return len(words), sum(words) / max(len(words), 1)

    writes = tasks.of(config.task).generates
    places = length if writes else 0
    row = flops.forward_per_row(model, Layout(length, config.data.segments), places)
    scored, size = tokens_of("test")
    # A generated token costs the same forward pass as one that is read.
    forward = scored * (size + (config.task.max_new_tokens if writes else 0))
    if not job.train:
        return Estimate(0, 0, forward * row / length)
    count, size = tokens_of("train")
    batches = math.ceil(count / train.batch_size)
    seen = train.examples / train.batch_size or train.epochs * batches
    steps = train.steps or math.ceil(seen)
    tokens = round(steps * train.batch_size * size)
    held_out, size = tokens_of("validation")
    held_out = min(held_out, train.eval_batches * train.batch_size or held_out)
    every = train.eval_every or round(train.eval_epochs * batches)
    forward += _evaluations(steps, every) * held_out * size
    return Estimate(steps, tokens, (3 * tokens + forward) * row / length)


def _pretraining(job: Job, model: ModelConfig) -> Estimate:
    config, train, length = job.config, job.config.train, job.config.data.length
    steps = train.steps or math.ceil(train.tokens / train.batch_size) or None
    if steps is None:
        return Estimate(None, None, None)
    objectives = make_objectives(config.objective)
    layout = row_layout(objectives, length, config.data.segments)
    row = flops.train_step(model, layout, 1, objectives)
    tokens = steps * train.batch_size
    held_out = train.eval_batches * train.batch_size  # 0: all of the split, whose size is unknown
    forward = _evaluations(steps, train.eval_every) * held_out
    return Estimate(steps, tokens, (tokens + forward / 3) * row / length)


def _evaluations(steps: int, every: int) -> int:
    """Returns the number of evaluations, including the one after the last step."""
    return math.ceil(steps / every) if every else 1


def _words(example: Example) -> int:
    texts = [v for v in example.values() if isinstance(v, str)]
    texts += [message["content"] for message in example.get("messages", ())]
    choices = example.get("choices", [""])  # each is read together with the text
    words = len(choices) * sum(len(t.split()) for t in texts)
    words += sum(len(choice.split()) for choice in choices)
    return words + len(example.get("tokens", ()))

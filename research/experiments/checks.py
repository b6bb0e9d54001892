"""What would stop a run of an experiment, found before the first one is made.

Nothing is trained for it and no device is touched. A tokenizer that is still to be trained is
stood in for by one with the same special tokens.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from research.checkpoints.reading import Info, read_info
from research.config import Config, of_checkpoint
from research.data import sources, tokenizer_files
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.evaluation import validation
from research.experiments.experiment import Experiment, Job
from research.experiments.job import DONE, SCORED, finished, scored
from research.models import params as parameters
from research.monitoring.writers import METRICS, TIMING, lines
from research.objectives import names, source_mixture
from research.objectives.objective import heads_of
from research.optim import optimizer
from research.run import best, corpus
from research.run import run as runs
from research.run.loaded import objectives_of
from research.sharding import mesh as meshes
from research.tasks.task import Task

# What an encoder and a decoder have to be trained with, so that a report can show its examples.
ENCODER, DECODER = ("masked_lm", "next_sentence"), ("causal_lm",)
SOME_TEXT = ("some text",)
CUT = 500  # about so many examples of a split, from all over it, are cut into slots: that is slow
SOME_STEPS = 100  # of a schedule that only has to be well formed


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a run that is still to be made: its config with the shape that it will have,
    and a tokenizer with its special tokens."""

    config: Config
    tokenizer: Tokenizer


def check(
    experiment: Experiment, chosen: Sequence[Job], planned: Sequence[Job], devices: int
) -> None:
    """Raises UserError, with the run's name, for what cannot be read or does not fit.

    Args:
        chosen: the jobs that are to be made; planned: all of the experiment.
        devices: that each run will see.
    """
    _check_shown(experiment, planned)
    read = _Read()
    to_make = {job.run for job in chosen}
    for job, known in outlook(chosen, planned):
        if job.run not in to_make:
            continue
        try:
            _check_run(known, devices, read)
        except UserError as error:
            raise UserError(f"run {job.run!r}: {error}") from error


def check_finished(planned: Sequence[Job]) -> None:
    """Raises UserError for a finished run whose folder has lost or damaged parts."""
    done = [job for job in planned if (job.workdir / DONE).exists()]
    counts: dict[str, int] = {}  # test examples by their data
    for job in done:
        try:
            _check_whole(job, counts)
        except UserError as error:
            others = [other.workdir.name for other in done if other.after == job.workdir]
            again = f" with --rerun_changed, {', '.join(others)} too" if others else ""
            raise UserError(
                f"{job.workdir.name} is finished, but its folder is not whole: {error}. Put back "
                f"what is missing, or remove {job.workdir / DONE}, and the same command makes it "
                f"again{again}"
            ) from error


def _check_whole(job: Job, counts: dict[str, int]) -> None:
    finished(job)
    if job.train:
        read_info(str(job.workdir))
        for name in (METRICS, TIMING):
            if not (job.workdir / name).exists():
                raise UserError(f"it has no {name}")
            lines(job.workdir / name)
    if job.config.task is None:
        return
    if not (job.workdir / SCORED).exists():
        raise UserError(f"it has no {SCORED}")
    key = repr(job.config.data)
    if key not in counts:
        counts[key] = len(corpus.split(job.config, "test").examples)
    found, expected = len(scored(job)), counts[key]
    if found != expected:
        raise UserError(f"{SCORED} has {found:,} lines for {expected:,} test examples")


def outlook(chosen: Sequence[Job], planned: Sequence[Job]) -> list[tuple[Job, Known]]:
    """What the chosen runs, and those that they start from, will be; of each its first job.

    Raises UserError, with the run's name, where a run does not fit what it starts from.
    """
    found: dict[Path, tuple[Job, Known]] = {}
    wanted = _with_starts({job.run for job in chosen}, planned)
    for job in planned:
        if job.run not in wanted or any(job.run == other.run for other, _ in found.values()):
            continue
        start = found[job.after][1] if job.after in found else None
        try:
            found[job.workdir] = (job, _known(job, start))
        except UserError as error:
            raise UserError(f"run {job.run!r}: {error}") from error
    return list(found.values())


def _with_starts(chosen: set[str], planned: Sequence[Job]) -> set[str]:
    by_workdir = {job.workdir: job for job in planned}
    found = set(chosen)
    for job in reversed(planned):  # what a run starts from comes before it
        if job.run in found and job.after is not None:
            found.add(by_workdir[job.after].run)
    return found


def _known(job: Job, start: Known | None) -> Known:
    config, wanted = corpus.with_labels(job.config), job.config.tokenizer
    info: Info | None = None
    if config.init_from and (job.after is None or (job.after / DONE).exists()):
        info = read_info(config.init_from)
        theirs = of_checkpoint(info.config, config.init_from)
        start = Known(theirs, Tokenizer.from_json(info.tokenizer_json))
    there = info is not None or not config.init_from
    if there and wanted.kind in ("checkpoint", "file", "bytes"):
        return Known(*runs.resolve(config))
    if wanted.kind == "checkpoint":
        tokenizer = start.tokenizer
    elif wanted.kind == "file":
        tokenizer = tokenizer_files.load(wanted.path)
    else:
        tokenizer = corpus.trained(wanted, SOME_TEXT)
    tokenizer = tokenizer.with_tokens(wanted.add_tokens) if wanted.add_tokens else tokenizer
    entries = wanted.vocab_size if wanted.kind in ("wordpiece", "byte_bpe") else 0
    shape = runs.shape(config, start and start.config.model, entries or tokenizer.vocab_size)
    return Known(dataclasses.replace(config, model=shape), tokenizer)


@dataclasses.dataclass
class _Read:
    """What several runs share is read once: the splits as examples of a kind, and which
    sources, alone or with a task's options, have been found to fit."""

    splits: dict[str, corpus.Split] = dataclasses.field(default_factory=dict)
    fitting: set[str] = dataclasses.field(default_factory=set)


def _check_run(known: Known, devices: int, read: _Read) -> None:
    config, data, train = known.config, known.config.data, known.config.train
    objectives, task = objectives_of(config, known.tokenizer)
    sizes = dict(zip(meshes.AXES, meshes.axis_sizes(config.mesh, devices), strict=True))
    meshes.check_length(config.mesh, sizes, data.length)
    if task is None:
        for objective in objectives:
            objective.check_tokenizer(known.tokenizer)
        corpus.batch_rows(config, sizes["data"] * sizes["fsdp"])
        if data.weights:
            source_mixture.shares(data.weights, [source.name for source in data.corpus])
        for source in data.corpus:
            if repr(source) not in read.fitting:
                sources.fingerprint(source)  # raises where there is nothing to read
                read.fitting.add(repr(source))
    else:
        for split in ("train", "validation", "test"):
            if getattr(data, split):
                _check_examples(task, config, split, read)
    optimizer.check(config.optimizer)
    c = config.optimizer
    if c.freeze or c.rates or c.layer_decay != 1.0 or config.model.lora_rank:
        shapes = parameters.shapes(config.model, heads_of(objectives, config.model))
        optimizer.make(c, train.steps or SOME_STEPS, shapes)
    evaluates = bool(train.eval_every or train.eval_epochs)
    best.check(train.best, train.patience, evaluates, validation.known(config))


def _check_examples(task: Task, config: Config, name: str, read: _Read) -> None:
    train = config.data.train  # whose fields may be those of the others
    key = f"{task.kind} {config.data.source(name)} {train.fields} {train.label_names}"
    if key not in read.splits:
        read.splits[key] = corpus.split(config, name)
    if f"{key} {config.task}" not in read.fitting:
        found = read.splits[key]
        corpus.task_slots(task, found, max(1, len(found.examples) // CUT))
        read.fitting.add(f"{key} {config.task}")


def _check_shown(experiment: Experiment, planned: Sequence[Job]) -> None:
    """Raises UserError where a report could not be made of what the experiment names."""
    configs = {job.run: job.config for job in planned}
    for name in experiment.pretraining:
        if configs[name].objective is None:
            raise UserError(f"pretraining names {name!r}, which is a fine-tuning")
    for role, name, needed in (
        ("encoder", experiment.encoder, ENCODER),
        ("decoder", experiment.decoder, DECODER),
    ):
        if not name:
            continue
        config = configs.get(name)
        if config is None:
            config = of_checkpoint(read_info(name).config, name)
        has = names(config.objective) if config.objective else []
        if missing := [objective for objective in needed if objective not in has]:
            raise UserError(
                f"{role}={name!r} is not trained with {' and '.join(missing)}, which its examples "
                "in the report need"
            )

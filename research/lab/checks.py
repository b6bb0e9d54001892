"""Checks all runs of an experiment before the first one starts.

Trains nothing and touches no device (`manifest`).
"""

from collections.abc import Sequence
from pathlib import Path

from research import tasks
from research.checkpoints.reading import read_info
from research.config import of_checkpoint
from research.errors import UserError
from research.evaluation import validation
from research.lab.experiment import Experiment, Job
from research.lab.record import DONE, SCORED, Record
from research.monitoring.writers import METRICS, TIMING, lines
from research.objectives import names as objective_names
from research.run import best, corpus
from research.run import manifest as manifests
from research.run.manifest import Manifest

# The objectives that an encoder and a decoder need, so that a report can show their examples.
ENCODER, DECODER = ("masked_lm", "next_sentence"), ("causal_lm",)


def check(
    experiment: Experiment, chosen: Sequence[Job], planned: Sequence[Job], devices: int
) -> None:
    """Raises UserError, with the run's name, for what cannot be read or does not fit.

    Args:
        chosen: the jobs to run; planned: all jobs of the experiment.
        devices: number of devices that each run will see.
    """
    _check_shown(experiment, planned)
    seen = manifests.Seen()
    names = {job.run for job in chosen}
    for job, manifest in manifests_of(chosen, planned):
        if job.run not in names:
            continue
        try:
            manifests.check(manifest, devices, seen)
            train = manifest.config.train
            evaluates = bool(train.eval_every or train.eval_epochs)
            best.check(train.best, train.patience, evaluates, validation.known(manifest.config))
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
                f"{job.workdir.name} is finished, but its folder is incomplete: {error}. Put the "
                f"file back, or remove {job.workdir / DONE} and repeat the command to rerun it"
                f"{again}"
            ) from error


def _check_whole(job: Job, counts: dict[str, int]) -> None:
    record = Record.of(job)
    _ = record.done  # raises if it is damaged
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
        kind = tasks.kind_of(job.config.task)
        counts[key] = len(corpus.split(job.config.data, kind, "test").examples)
    scored, expected = len(record.scores), counts[key]
    if scored != expected:
        raise UserError(f"{SCORED} has {scored:,} lines for {expected:,} test examples")


def manifests_of(chosen: Sequence[Job], planned: Sequence[Job]) -> list[tuple[Job, Manifest]]:
    """Returns the manifests of the chosen runs and of their starts, each with the run's first job.

    Raises UserError, with the run's name, if a run disagrees with the run that it starts from.
    """
    resolved: dict[Path, tuple[Job, Manifest]] = {}
    wanted = _with_starts({job.run for job in chosen}, planned)
    for job in planned:
        if job.run not in wanted or any(job.run == other.run for other, _ in resolved.values()):
            continue
        exists = job.after is None or (job.after / DONE).exists()
        start = None if exists else resolved[job.after][1]
        try:
            resolved[job.workdir] = (job, manifests.resolve(job.config, start, dry=True))
        except UserError as error:
            raise UserError(f"run {job.run!r}: {error}") from error
    return list(resolved.values())


def _with_starts(chosen: set[str], planned: Sequence[Job]) -> set[str]:
    by_workdir = {job.workdir: job for job in planned}
    names = set(chosen)
    for job in reversed(planned):  # the start of a run comes before the run
        if job.run in names and job.after is not None:
            names.add(by_workdir[job.after].run)
    return names


def _check_shown(experiment: Experiment, planned: Sequence[Job]) -> None:
    """Raises UserError if the report cannot show the runs that the experiment names."""
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
        has = objective_names(config.objective) if config.objective else []
        if missing := [objective for objective in needed if objective not in has]:
            raise UserError(
                f"{role}={name!r} is not trained with {' and '.join(missing)}, which its examples "
                "in the report need"
            )

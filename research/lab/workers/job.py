"""Runs one run of an experiment, or one trial of a search, in its own process.

    python -m research.lab.workers.job run FILE FOLDER RUN SEEDS CORES
    python -m research.lab.workers.job trial FILE FOLDER CORES

The experiment's runner, or the search, passes the arguments: SEEDS is a job's number, such as 3.1;
a trial's FOLDER contains its values.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from research import bucket
from research.checkpoints.reading import read_info
from research.config import to_values
from research.data import sources
from research.errors import guarded
from research.evaluation import predictor, splits
from research.lab import experiment, search
from research.lab.experiment import Job, Run, fingerprint
from research.lab.record import BEGUN, DONE, SCORED, read_record
from research.lab.workers import children
from research.metrics.counts import to_json
from research.monitoring import starts
from research.run import corpus
from research.run.loaded import Loaded, load_model, with_config
from research.training import loop


def make(job: Job, declared: Run) -> None:
    """Trains or resumes a job, scores the test split if it has a task, and marks it as done.

    declared: the run as in the experiment's file, which is noted beside the resolved config.
    """
    start = time.perf_counter()
    key = fingerprint(job)
    begun = {
        "fingerprint": key,
        "seconds": _before(job, key),
        "made_from": asdict(declared),
    }

    def seconds() -> float:
        return begun["seconds"] + time.perf_counter() - start

    _note(job, BEGUN, begun)
    step, metrics, by_source, loaded = 0, {}, {}, None
    if job.train:
        label = job.workdir.name
        try:
            result = loop.train(job.config, str(job.workdir), label=label, describe_run=False)
        except loop.Interrupted:
            _note(job, BEGUN, begun | {"seconds": seconds()})
            raise
        step, metrics = result.step, result.metrics
        if job.config.task is not None:
            loaded = load_model(str(job.workdir))
        else:
            by_source = splits.of_sources(load_model(str(job.workdir)), quiet=True)
    else:
        loaded = with_config(load_model(job.config.init_from), job.config)
        text = json.dumps(to_values(job.config), indent=1)
        bucket.write_whole(job.workdir / starts.CONFIG, text + "\n")
        data = sources.fingerprint(job.config.data.source("test"))
        start_key = read_info(job.config.init_from).fingerprint
        starts.add(job.workdir, starts.describe(data, start_key) | {"step": 0})
    if loaded is not None:
        _score(job, loaded)
    record = {
        "fingerprint": key,
        "commit": starts.commit(),
        "step": step,
        "metrics": metrics,
        "sources": by_source,
        "seconds": seconds(),
    }
    _note(job, DONE, record)


def _before(job: Job, key: str) -> float:
    """Returns the seconds that the run took before it was stopped, but not before it was killed."""
    if not (job.workdir / BEGUN).exists():
        return 0.0
    begun = read_record(job.workdir / BEGUN)
    return begun.get("seconds", 0.0) if begun["fingerprint"] == key else 0.0


def _note(job: Job, name: str, record: dict) -> None:
    bucket.write_whole(job.workdir / name, json.dumps(record, indent=1) + "\n")


def _score(job: Job, loaded: Loaded) -> None:
    """Predicts the test split (or validation, if there is no test split) and saves the counts."""
    examples = corpus.split(job.config.data, loaded.task.kind, "test").examples
    predicted = predictor.predict(loaded, examples)
    lines = [
        {"prediction": p, "counts": to_json(loaded.task.counts(e, p))}
        for e, p in zip(examples, predicted, strict=True)
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    bucket.write_whole(job.workdir / SCORED, text + "\n")


def run(file: str, folder: str, name: str, number: str) -> None:
    """Runs a run of an experiment."""
    loaded = experiment.load(file)
    planned = experiment.jobs(loaded, bucket.path(folder))
    make(next(j for j in planned if (j.run, j.number) == (name, number)), loaded.runs[name])


def trial(file: str, folder: str) -> None:
    """Trains or resumes a trial of a search."""
    place = Path(folder)
    chosen = json.loads((place / search.PARAMETERS).read_text())
    config = search.trial_config(search.load(file), chosen)
    loop.train(config, folder, label=place.name, describe_run=False)


def main(kind: str, *arguments: str, cores: str = "") -> int:
    """Runs the command of the module's docstring on `cores` (comma-separated numbers)."""
    children.as_child(cores)
    try:
        {"run": run, "trial": trial}[kind](*arguments)
    except loop.Interrupted as stopped:
        print(f"{stopped}; its checkpoint is saved", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:-1], cores=sys.argv[-1])))

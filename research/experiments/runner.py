"""Makes the runs of an experiment one after the other; what is finished is not made again."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from research.errors import UserError
from research.evaluation import predictor
from research.experiments.experiment import Experiment, Job, fingerprint, jobs
from research.training import loop
from research.training.inference import load_model

DONE = "done.json"
SCORED = "test.jsonl"  # one line for each test example: prediction and counts


def run(
    experiment: Experiment, folder: Path, only: str = "", say: Callable[[str], None] = print
) -> list[Job]:
    """Trains every job and scores the tasks on their test split; returns the jobs.

    Args:
        only: runs whose name contains this; their dependencies must be finished.
        say: where progress is told.

    Raises UserError for anything wrong in the experiment, before the first run starts.
    """
    planned = jobs(experiment, folder)
    chosen = [job for job in planned if only in job.run]
    if not chosen:
        raise UserError(f"--only={only!r} fits no run; runs: {', '.join(experiment.runs)}")
    for number, job in enumerate(chosen, 1):
        key = fingerprint(job.config)
        done = job.workdir / DONE
        if done.exists():
            found = json.loads(done.read_text())
            if found["fingerprint"] == key:
                say(f"[{number}/{len(chosen)}] {job.workdir.name}: finished before")
                continue
            raise UserError(
                f"{job.workdir} holds a finished run with another config or other data; remove "
                "it, or give another --workdir"
            )
        say(f"[{number}/{len(chosen)}] {job.workdir.name}")
        start = time.perf_counter()
        result = loop.train(job.config, str(job.workdir), label=job.run, describe_run=False)
        if job.config.task is not None:
            _score(job)
        record = {
            "fingerprint": key,
            "step": result.step,
            "metrics": result.metrics,
            "seconds": time.perf_counter() - start,
        }
        done.write_text(json.dumps(record, indent=1) + "\n")
    return planned


def _score(job: Job) -> None:
    """Predicts the test split (the validation split where there is none) and keeps the counts."""
    loaded = load_model(str(job.workdir))
    examples = predictor.split_examples(job.config, loaded.task, "test")
    predicted = predictor.predict(loaded, examples)
    lines = [
        json.dumps({"prediction": p, "counts": loaded.task.counts(e, p)}, ensure_ascii=False)
        for e, p in zip(examples, predicted, strict=True)
    ]
    part = job.workdir / f"{SCORED}.part"
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(job.workdir / SCORED)


def scored(job: Job) -> list[dict]:
    """What `_score` wrote: {"prediction", "counts"} of each test example."""
    text = (job.workdir / SCORED).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def finished(job: Job) -> dict:
    """The record of a finished job: step, validation metrics, seconds."""
    return json.loads((job.workdir / DONE).read_text())

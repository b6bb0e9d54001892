"""One run of an experiment in a process of its own.

    python -m research.experiments.job FILE FOLDER RUN SEEDS [CORES]

The runner of the same experiment gives the arguments; SEEDS is a job's number, such as 3.1.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from etils import epath

from research import bucket
from research.checkpoints.reading import read_info
from research.config import to_values
from research.data import sources
from research.errors import UserError, guarded
from research.evaluation import predictor, splits
from research.experiments import children
from research.experiments.experiment import Job, Run, fingerprint, jobs, load
from research.monitoring import starts
from research.monitoring.writers import json_object, lines
from research.run.loaded import Loaded, load_model, with_config
from research.training import loop

BEGUN = "begun.json"
DONE = "done.json"
KEYS = {BEGUN: ("fingerprint",), DONE: ("fingerprint", "commit")}  # of every such record
SCORED = "test.jsonl"  # one line for each test example: prediction and counts


def make(job: Job, made_from: Run) -> None:
    """Trains (or goes on), scores the test split if there is a task, and says that it is done.

    made_from: the run as the experiment's file has it, which is noted beside the resolved config.
    """
    start = time.perf_counter()
    made_of = fingerprint(job)
    begun = {
        "fingerprint": made_of,
        "seconds": _before(job, made_of),
        "made_from": asdict(made_from),
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
        "fingerprint": made_of,
        "commit": starts.commit(),
        "step": step,
        "metrics": metrics,
        "sources": by_source,
        "seconds": seconds(),
    }
    _note(job, DONE, record)


def _before(job: Job, made_of: str) -> float:
    """The seconds that the run took before it was stopped; not those of one that was killed."""
    if not (job.workdir / BEGUN).exists():
        return 0.0
    begun = read_record(job.workdir / BEGUN)
    return begun.get("seconds", 0.0) if begun["fingerprint"] == made_of else 0.0


def _note(job: Job, name: str, record: dict) -> None:
    bucket.write_whole(job.workdir / name, json.dumps(record, indent=1) + "\n")


def _score(job: Job, loaded: Loaded) -> None:
    """Predicts the test split (the validation split where there is none) and keeps the counts."""
    examples = predictor.split_examples(job.config, loaded.task, "test")
    predicted = predictor.predict(loaded, examples)
    lines = [
        json.dumps({"prediction": p, "counts": loaded.task.counts(e, p)}, ensure_ascii=False)
        for e, p in zip(examples, predicted, strict=True)
    ]
    bucket.write_whole(job.workdir / SCORED, "\n".join(lines) + "\n")


def scored(job: Job) -> list[dict]:
    """What `_score` wrote: {"prediction", "counts"} of each test example.

    Raises UserError where the file is damaged.
    """
    return lines(job.workdir / SCORED, ("prediction", "counts"), strict=True)


def finished(job: Job) -> dict:
    """The record of a finished job: step, validation metrics, seconds."""
    file = job.workdir / DONE
    found = read_record(file, ("step", "metrics", "seconds"))
    whole = isinstance(found["metrics"], dict) and isinstance(found["seconds"], int | float)
    if not whole:
        raise UserError(
            f"{file} is damaged: metrics={found['metrics']}, seconds={found['seconds']}"
        )
    return found


def read_record(file: epath.Path, keys: Sequence[str] = ()) -> dict:
    """What `_note` wrote. Raises UserError where it is damaged or lacks one of `keys` or `KEYS`."""
    try:
        return json_object(file.read_bytes(), str(file), (*KEYS[file.name], *keys))
    except UserError as error:
        raise UserError(f"{error}; remove it, and the run goes on from its checkpoints") from error


def main(file: str, folder: str, run: str, number: str, cores: str = "") -> int:
    """See the module's text; `cores` are the numbers of those it may use, with commas."""
    children.as_child(cores)
    loaded = load(file)
    planned = jobs(loaded, bucket.path(folder))
    found = [j for j in planned if (j.run, j.number) == (run, number)]
    try:
        make(found[0], loaded.runs[run])
    except loop.Interrupted as stopped:
        print(f"{stopped}; its checkpoint is saved", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))

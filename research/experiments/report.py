"""The table of an experiment, as Markdown: each task from scratch and from the checkpoint."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.data import corpus, store
from research.data.tokenizer import Tokenizer
from research.evaluation import language, predictor
from research.evaluation.bootstrap import Gap, paired_bootstrap
from research.evaluation.metrics import Counts, total
from research.experiments import baselines
from research.experiments.experiment import BASELINES, Experiment, Job, Row, checkpoint_of
from research.experiments.job import finished, scored
from research.tasks.protocol import Example, Task
from research.training.inference import Loaded, load_model

MASKED = "The cat sat on the [MASK]."
PAIR = ("I have a cat.", "It loves to purr.")
PROMPT = "The dog wagged its"


def make(experiment: Experiment, planned: list[Job], folder: Path) -> str:
    """The whole report of a finished experiment."""
    parts = [f"# {experiment.name}"]
    if experiment.pretraining:
        parts += ["## Pre-training, on held-out text", _pretraining(experiment, planned)]
    if experiment.rows:
        table, samples = _tasks(experiment, planned)
        parts += ["## Fine-tuning, on the test split", table, _legend(experiment.notes), samples]
    if experiment.encoder:
        parts += ["## Seed examples", _seeds(experiment, folder)]
    seconds = sum(finished(job)["seconds"] for job in planned)
    parts.append(f"The runs took {seconds / 60:.1f} minutes, added up.")
    return "\n\n".join(parts) + "\n"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(r[i]) for r in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


# Pre-training


def _pretraining(experiment: Experiment, planned: list[Job]) -> str:
    rows = []
    for job in planned:
        if job.run not in experiment.pretraining:
            continue
        loaded = load_model(str(job.workdir))
        found, simple = finished(job)["metrics"], _language_baselines(loaded)
        tokens = finished(job)["step"] * job.config.train.batch_size
        shown = [
            ("masked_accuracy", "masked accuracy", "most frequent token"),
            ("next_sentence_accuracy", "next sentence accuracy", "coin"),
            ("perplexity", "perplexity", "bigram"),
            ("bits_per_byte", "bits per byte", "bigram"),
        ]
        for key, name, baseline in shown:
            if key in found:
                value = f"{simple[key]:.4g} ({baseline})"
                rows.append([job.run, f"{tokens:,}", name, value, f"{found[key]:.4g}"])
    return _markdown(["run", "tokens seen", "metric", "baseline", "model"], rows)


def _language_baselines(loaded: Loaded) -> dict[str, float]:
    """Numbers of n-gram models over the same tokens, trained on the training split."""
    data = loaded.config.data
    train, held_out = (
        _documents(store.build(data.corpus, s, data.held_out_percent, loaded.tokenizer, data.cache))
        for s in ("train", "validation")
    )
    entries = loaded.tokenizer.vocab_size
    if loaded.config.objective.causal_lm is None:
        counts = baselines.frequent_token(_framed(train, 0), _framed(held_out, 0), entries).counts
        return language.finish(total(counts)) | {"next_sentence_accuracy": 0.5}
    end = loaded.tokenizer.eos
    rows, test = _framed(train, end), _framed(held_out, end)
    sizes = _bytes(loaded.tokenizer, test)
    return language.finish(total(baselines.bigram(rows, test, sizes, entries).counts))


def _documents(found: store.Store) -> list[np.ndarray]:
    return [
        np.asarray(block.slice(d, 0, int(length))[0]).astype(np.int64)
        for block in map(found.block, range(found.blocks))
        for d, length in enumerate(block.lengths)
    ]


def _framed(documents: list[np.ndarray], end: int) -> list[np.ndarray]:
    """Rows as a causal model reads them: the end-of-text token before and after."""
    return [np.concatenate([[end], d, [end]]) for d in documents]


def _bytes(tokenizer: Tokenizer, rows: list[np.ndarray]) -> list[int]:
    """UTF-8 bytes of the predicted tokens of each row."""
    lengths = tokenizer.byte_lengths()
    return [int(lengths[row[1:]].sum()) for row in rows]


# Fine-tuning


def _tasks(experiment: Experiment, planned: list[Job]) -> tuple[str, str]:
    rows, samples = [], []
    for row in experiment.rows:
        ours = [j for j in planned if j.run == row.pretrained]
        theirs = [j for j in planned if j.run == row.scratch]
        loaded = load_model(str(ours[0].workdir))
        task, config = loaded.task, ours[0].config
        examples = predictor.split_examples(config, task, "test")
        outcomes = [[line["counts"] for line in scored(j)] for j in (*ours, *theirs)]
        good, bad = outcomes[: len(ours)], outcomes[len(ours) :]
        simple = _baseline(row, task, config, examples, loaded.tokenizer)
        for metric in row.metrics or (task.metric,):
            # The task says of its own metric which way is better; more of another is.
            better = "↑" if metric != task.metric or task.higher_is_better else "↓"
            value = task.finish(total(simple))[metric]
            rows.append(
                [
                    row.task,
                    f"{metric.replace('_', ' ')} {better}",
                    f"{value:.3f} ({row.baseline.replace('_', ' ')})",
                    _values(task, metric, bad),
                    _values(task, metric, good),
                    _gap(paired_bootstrap(good, bad, task.finish, metric)),
                ]
            )
        before, after = (
            [task.show(e, x["prediction"]) for e, x in zip(examples, scored(j), strict=True)]
            for j in (theirs[0], ours[0])
        )
        samples.append(f"- **{row.task}**, {_samples(experiment.sides, before, after)}")
    header = ["task", "metric", "baseline", *experiment.sides, "gap"]
    return _markdown(header, rows), "One prediction of each:\n\n" + "\n".join(samples)


def _values(task: Task, metric: str, runs: Sequence[Sequence[Counts]]) -> str:
    found = [task.finish(total(run))[metric] for run in runs]
    spread = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.3f}{spread}"


def _gap(gap: Gap) -> str:
    return f"{gap.difference:+.3f} ± {gap.error:.3f}"


def _legend(notes: str) -> str:
    return (
        "The gap is the right value minus the left one, with its bootstrap error over the test "
        "examples; a value after ± in other columns is the deviation over seeds. " + notes
    ).strip()


def _baseline(
    row: Row, task: Task, config: Any, examples: list[Example], tokenizer: Tokenizer
) -> list[Counts]:
    """The counts of the simple method on the same training and test examples."""
    train = corpus.examples(config.data.train, task.kind)
    if row.baseline != "bigram":
        return BASELINES[row.baseline](train, examples).counts
    rows = [r for e in train for r in _completion_rows(task, e, whole=True)]
    counts = []
    for example in examples:
        test = _completion_rows(task, example, whole=False)
        entries, sizes = tokenizer.vocab_size, _bytes(tokenizer, test)
        counts.append(total(baselines.bigram(rows, test, sizes, entries).counts))
    return counts


def _completion_rows(task: Task, example: Example, whole: bool) -> list[np.ndarray]:
    """Token rows of an example: all of it, or from the token before the completion on."""
    found = []
    for slot in task.slots(example, 0, True):
        first = 0 if whole else int(np.argmax(slot.target_weights > 0))
        found.append(np.concatenate([slot.tokens[first : first + 1], slot.targets[first:]]))
    return found


def _samples(sides: tuple[str, str], before: list[str], after: list[str]) -> str:
    """The first test example that is short enough to be read in a line or two, on both sides."""
    chosen = min(range(min(20, len(after))), key=lambda i: abs(len(after[i]) - 200))
    lines = (f"{side}: {found[chosen]}" for side, found in zip(sides, (before, after), strict=True))
    return "\n  ".join(" ".join(line.split()) for line in lines)


# Seed examples


def _seeds(experiment: Experiment, folder: Path) -> str:
    encoder = load_model(checkpoint_of(experiment.encoder, folder, experiment.runs))
    decoder = load_model(checkpoint_of(experiment.decoder, folder, experiment.runs))
    return "\n".join(
        [
            f"- {predictor.show_text(encoder, {'text': MASKED})}",
            f"- {predictor.show_text(encoder, {'text_a': PAIR[0], 'text_b': PAIR[1]})}",
            f"- {PROMPT}{predictor.continuation(decoder, PROMPT)}",
        ]
    )

"""`launch.py evaluate`."""

from collections.abc import Mapping

import numpy as np

from research.data import jsonl
from research.errors import UserError
from research.evaluation import evaluator, splits
from research.metrics import classification
from research.metrics.counts import total
from research.run.loaded import Loaded, require_head
from research.sharding import processes
from research.tasks import sequence_classification


def run(
    checkpoint: str, overrides: dict[str, str], split: str = "validation", output: str = ""
) -> int:
    """Evaluates a checkpoint on a split, and writes the metrics beside it."""
    processes.same(
        "their flags",
        {"checkpoint": checkpoint, "split": split, "config": overrides},
        "start all of them with the same command",
    )
    loaded = require_head(splits.load(checkpoint, overrides), checkpoint)
    if output:
        if loaded.task is None:
            raise UserError(
                "evaluate: --output writes a task's predictions, and a pre-training has none; "
                "predict shows its fillings and next tokens"
            )
        jsonl.check_writable(output)
    evaluation = splits.evaluate(loaded, split, quiet=not processes.first())
    if processes.first():
        _write(checkpoint, split, output, loaded, evaluation, overrides)
    processes.together("the end")
    return 0


def _write(
    checkpoint: str,
    split: str,
    output: str,
    loaded: Loaded,
    evaluation: splits.Evaluation,
    overrides: dict[str, str],
) -> None:
    """Prints and writes an evaluation."""
    count = f", {len(evaluation.examples):,} examples" if evaluation.examples else ""
    print(f"step {loaded.info.step:,}, {split} ({splits.source_of(loaded.config, split)}){count}")
    print("".join(f"  {line}\n" for line in evaluation.left_out), end="")
    width = max(map(len, evaluation.metrics))
    for name, value in evaluation.metrics.items():
        print(f"  {name:<{width}}  {value:.4f}")
    if evaluation.sources:
        print("\n".join(_table(evaluation.sources)))
    if loaded.task is not None and loaded.task.name == sequence_classification.NAME:
        each = evaluator.task_counts(loaded.task, evaluation.examples, evaluation.predictions)
        counts = total(each)
        print("\n".join(_matrix(*classification.confusion(counts, loaded.config.task.labels))))
    written = [splits.record(checkpoint, split, loaded, evaluation, overrides)]
    if output:
        pairs = zip(evaluation.examples, evaluation.predictions, strict=True)
        jsonl.write(output, ({"id": e["id"]} | p for e, p in pairs))
        written.append(output)
    print(f"written: {', '.join(written)}")


def _table(sources: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A row of metrics for each source of a corpus; a dash for a metric that it lacks."""
    names = list(dict.fromkeys(name for metrics in sources.values() for name in metrics))
    width = max(map(len, (*sources, "of each source alone")))
    lines = [f"{'of each source alone':<{width}}  {'  '.join(names)}"]
    for source, metrics in sources.items():
        shown = [f"{metrics[n]:.4f}" if n in metrics else "-" for n in names]
        cells = "  ".join(f"{cell:>{len(n)}}" for n, cell in zip(names, shown, strict=True))
        lines.append(f"{source:<{width}}  {cells}")
    return [f"  {line}" for line in lines]


def _matrix(labels: list[str], cells: np.ndarray) -> list[str]:
    """The confusion matrix: a row for each gold label, a column for each predicted one."""
    width = max(map(len, (*labels, f"{cells.max():,.0f}")))
    corner = "in the data   predicted:"
    indent = max(len(corner), *map(len, labels))
    rows = [f"{label:<{indent}}" + "".join(f"  {n:>{width},.0f}" for n in row)
            for label, row in zip(labels, cells, strict=True)]  # fmt: skip
    head = f"{corner:<{indent}}" + "".join(f"  {label:>{width}}" for label in labels)
    return [f"  {line}" for line in (head, *rows)]

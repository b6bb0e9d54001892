"""Computes exact metrics of a split from sums over its batches, and a prediction per example."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from research.data.batch import Segment, assemble, pack
from research.data.loader import Ahead, Batches
from research.errors import Diverged
from research.metrics import answers
from research.metrics.counts import Counts, total
from research.objectives.objective import Loss, Reader
from research.tasks.batches import TaskBatches
from research.tasks.task import Example, Outputs, Prediction, Task

TOKENS = 8192  # approximate number of positions in a batch of predictions


def losses(
    eval_step: Callable,
    params: Any,
    data: Batches,
    objectives: tuple[Loss, ...],
    sharding: jax.sharding.NamedSharding,
    batches: int = 0,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Metrics of the objectives' losses over a split (or its first `batches` batches).

    Counts are summed on the host in float64, so the result does not depend on the batch size.
    `between` is called after each batch and may raise to end the evaluation.
    """
    counts = []
    for _, result in _results(eval_step, params, data, sharding, batches, between):
        counts.append(result)
        jax.block_until_ready(counts[-2:-1])  # so that a stop waits for one batch at most
    return loss_metrics(_summed(jax.device_get(counts)), objectives)


def task_metrics(
    measure_step: Callable,
    params: Any,
    task: Task,
    data: TaskBatches,
    examples: Sequence[Example],
    sharding: jax.sharding.NamedSharding,
    batches: int = 0,
    between: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Metrics of the loss and of the task over a split (or its first `batches` batches), in one
    pass.

    Args:
        examples: the examples of the segments in `data`, in the same order.
        between: as in `losses`.
    """
    number = {
        id(segment): (i, w)
        for i, each in enumerate(data.segments)
        for w, segment in enumerate(each)
    }
    outputs: list[dict[int, Outputs]] = [{} for _ in examples]
    counts = []
    for step, result in _results(measure_step, params, data, sharding, batches, between):
        sums, arrays = jax.device_get(result)
        counts.append(sums)
        rows = data.row_segments(step)
        _give(arrays, rows, [[number[id(segment)] for segment in row] for row in rows], outputs)
    chosen = list(examples[: len(counts) * data.examples])
    predicted = _predicted(task, chosen, data.segments, outputs)
    scores = task.compute_metrics(total(task_counts(task, chosen, predicted)))
    return loss_metrics(_summed(counts), (task,)) | scores


def _results(
    step: Callable,
    params: Any,
    data: Batches,
    sharding: jax.sharding.NamedSharding,
    batches: int,
    between: Callable[[], None],
) -> Iterator[tuple[int, Any]]:
    """Yields the number of each batch of a split, and the result of `step` on it."""
    count = data.epoch_batches(0, most=batches)
    ahead = Ahead(data, 0, count, sharding)
    try:
        for number in range(count):
            yield number, step(params, next(ahead))
            between()
    finally:
        ahead.close()


def _summed(counts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return total([{k: float(v) for k, v in of_batch.items()} for of_batch in counts])


def loss_metrics(counts: Mapping[str, float], objectives: tuple[Loss, ...]) -> dict[str, float]:
    """The metrics of all objectives from counts named "objective/count".

    Raises Diverged if a count is not finite: the metrics would be meaningless.
    """
    wrong = [f"{name} is {value}" for name, value in counts.items() if not math.isfinite(value)]
    if wrong:
        raise Diverged(
            f"the evaluation is not finite: {wrong[0]}; the training of these weights has "
            "diverged, or config.model.dtype is too narrow for them"
        )
    metrics: dict[str, float] = {}
    for objective in objectives:
        prefix = f"{objective.name}/"
        own = {k.removeprefix(prefix): v for k, v in counts.items() if k.startswith(prefix)}
        metrics |= objective.loss_metrics(own)
    return metrics


def _give(
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    rows: Sequence[Sequence[Segment]],
    numbers: Sequence[Sequence[tuple[int, int]]],
    outputs: list[dict[int, Outputs]],
) -> None:
    """Puts each segment's part of a batch's arrays into `outputs`.

    numbers: (example, window) of each segment of each row; outputs: example -> window -> arrays.
    """
    for r, row in enumerate(rows):
        at = predicted = 0
        for s, segment in enumerate(row):
            places = segment.predict_positions
            end, count = at + len(segment), 0 if places is None else len(places)
            read = {name: array[r, s] for name, array in arrays.get("segment", {}).items()}
            read |= {name: array[r, at:end] for name, array in arrays.get("token", {}).items()}
            for name, array in arrays.get("predict", {}).items():
                read[name] = array[r, predicted : predicted + count]
            at, predicted = end, predicted + count
            i, window = numbers[r][s]
            outputs[i][window] = read


def _predicted(
    task: Task | Reader,
    examples: Sequence[Example],
    segments: Sequence[Sequence[Segment]],
    outputs: Sequence[Mapping[int, Outputs]],
) -> list[Prediction]:
    return [
        task.predict(example, windows, [own[w] for w in range(len(windows))])
        for example, windows, own in zip(examples, segments, outputs, strict=False)
    ]


def predictions(
    predict_step: Callable,
    params: Any,
    task: Task | Reader,
    examples: Sequence[Example],
    segments: Sequence[Sequence[Segment]],
    pad: int | None,
    sharding: jax.sharding.NamedSharding,
    row_multiple: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Prediction]:
    """Returns a prediction for each example, in order.

    Segments are packed by length, so that short ones share rows, about TOKENS positions per batch.
    `progress` is called with the number of segments done. `segments`: the segments of each example.
    """
    outputs: list[dict[int, Outputs]] = [{} for _ in examples]
    flat = [(i, w) for i, windows in enumerate(segments) for w in range(len(windows))]
    packed = pack([len(segments[i][w]) for i, w in flat], task.layout.length, task.layout.segments)
    rows = min(max(1, TOKENS // task.layout.length), max(1, len(packed)))
    size = -(-rows // row_multiple) * row_multiple
    done = 0
    for at in range(0, len(packed), size):
        part = packed[at : at + size]
        numbers = [[flat[n] for n in row] for row in part + [[]] * (size - len(part))]
        packed_rows = [[segments[i][w] for i, w in row] for row in numbers]
        batch = assemble(packed_rows, task.layout, pad) | {"rows": np.arange(size, dtype=np.int32)}
        placed = {
            name: jax.make_array_from_callback(x.shape, sharding, lambda index, x=x: x[index])
            for name, x in batch.items()
        }
        _give(jax.device_get(predict_step(params, placed)), packed_rows, numbers, outputs)
        done += sum(map(len, packed_rows))
        progress(done)
    return _predicted(task, examples, segments, outputs)


def task_counts(task: Task, examples: list[Example], predicted: list[Prediction]) -> list[Counts]:
    """The counts of each example, whose sum gives the split's metrics.

    If predictions have a "null_score_difference", they include counts for tuning its threshold.
    `task.counts` lacks these: they are two names per question, too many to resample.
    """
    counted = []
    for number, (example, prediction) in enumerate(zip(examples, predicted, strict=True)):
        counts = task.counts(example, prediction)
        if "null_score_difference" in prediction:
            best = next((a["text"] for a in prediction["answers"] if a["text"]), "")
            counts |= answers.threshold_counts(
                number, example["answers"]["text"], best, prediction["null_score_difference"]
            )
        counted.append(counts)
    return counted

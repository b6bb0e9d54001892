"""Exact metrics of a split: sums over all its batches, and predictions example by example."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from research.data.batch import Slot, assemble, pack
from research.data.loader import Ahead, Batches
from research.errors import Diverged
from research.metrics import answers
from research.metrics.counts import Counts, total
from research.objectives.objective import Loss, Reader
from research.tasks.batches import TaskBatches
from research.tasks.task import Example, Outputs, Prediction, Task

TOKENS = 8192  # positions of a batch of predictions, about


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

    Counts are summed on the host in float64: the result does not depend on the batch size.
    `between` is called after each batch and may raise what ends the evaluation.
    """
    count = data.epoch_batches(0, most=batches)
    found = []
    ahead = Ahead(data, 0, count, sharding)
    try:
        for _ in range(count):
            found.append(eval_step(params, next(ahead)))
            jax.block_until_ready(found[-2:-1])  # who is asked to stop waits for no queue of them
            between()
    finally:
        ahead.close()
    return finish(_summed(jax.device_get(found)), objectives)


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
    pass over it.

    Args:
        examples: those of the slots in `data`, which are in order.
        between: as in `losses`.
    """
    count = data.epoch_batches(0, most=batches)
    number = {id(slot): (i, w) for i, each in enumerate(data.slots) for w, slot in enumerate(each)}
    outputs: list[dict[int, Outputs]] = [{} for _ in examples]
    found = []
    ahead = Ahead(data, 0, count, sharding)
    try:
        for step in range(count):
            counts, read = jax.device_get(measure_step(params, next(ahead)))
            found.append(counts)
            rows = data.rows(step)
            _give(read, rows, [[number[id(slot)] for slot in row] for row in rows], outputs)
            between()
    finally:
        ahead.close()
    chosen = list(examples[: count * data.examples])
    predicted = _predicted(task, chosen, data.slots, outputs)
    return finish(_summed(found), (task,)) | task.finish(
        total(task_counts(task, chosen, predicted))
    )


def _summed(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return total([{k: float(v) for k, v in counts.items()} for counts in found])


def _give(
    found: Mapping[str, Mapping[str, np.ndarray]],
    rows: Sequence[Sequence[Slot]],
    numbers: Sequence[Sequence[tuple[int, int]]],
    outputs: list[dict[int, Outputs]],
) -> None:
    """Gives each slot of a batch its part of the outputs.

    numbers: (example, window) of each slot of each row; outputs: by these.
    """
    for r, row in enumerate(rows):
        at = predicted = 0
        for s, slot in enumerate(row):
            places = slot.predict_positions
            end, count = at + len(slot), 0 if places is None else len(places)
            read = {name: array[r, s] for name, array in found.get("slot", {}).items()}
            read |= {name: array[r, at:end] for name, array in found.get("token", {}).items()}
            for name, array in found.get("predict", {}).items():
                read[name] = array[r, predicted : predicted + count]
            at, predicted = end, predicted + count
            i, window = numbers[r][s]
            outputs[i][window] = read


def _predicted(
    task: Task | Reader,
    examples: Sequence[Example],
    slots: Sequence[Sequence[Slot]],
    outputs: Sequence[Mapping[int, Outputs]],
) -> list[Prediction]:
    return [
        task.predict(example, windows, [found[w] for w in range(len(windows))])
        for example, windows, found in zip(examples, slots, outputs, strict=False)
    ]


def finish(counts: Mapping[str, float], objectives: tuple[Loss, ...]) -> dict[str, float]:
    """The metrics of all objectives from counts named "objective/count".

    Raises Diverged where a count is not finite: no number would say anything.
    """
    wrong = [f"{name} is {value}" for name, value in counts.items() if not math.isfinite(value)]
    if wrong:
        raise Diverged(
            f"the evaluation gives no finite numbers: {wrong[0]}; the weights are those of a "
            "training that has diverged, or config.model.dtype is too narrow for them"
        )
    metrics: dict[str, float] = {}
    for objective in objectives:
        prefix = f"{objective.name}/"
        own = {k.removeprefix(prefix): v for k, v in counts.items() if k.startswith(prefix)}
        metrics |= objective.metrics(own)
    return metrics


def predictions(
    predict_step: Callable,
    params: Any,
    task: Task | Reader,
    examples: list[Example],
    pad: int | None,
    sharding: jax.sharding.NamedSharding,
    labelled: bool = False,
    row_multiple: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    slots: list[list[Slot]] | None = None,
) -> list[Prediction]:
    """A prediction for each example, in the order of the examples.

    Examples are packed by length, so that short ones share rows; a batch has about TOKENS
    positions. `progress` is told how many slots are done. `slots`: the examples' slots, if they
    have been made already.
    """
    slots = slots or [task.slots(example, i, labelled) for i, example in enumerate(examples)]
    outputs: list[dict[int, Outputs]] = [{} for _ in examples]
    flat = [(i, w) for i, windows in enumerate(slots) for w in range(len(windows))]
    rows = max(1, TOKENS // task.layout.length)
    data = _packed(slots, flat, task, pad, rows, row_multiple)
    done = 0
    for numbers, laid, batch in data:
        arrays = jax.make_array_from_callback
        placed = {
            k: arrays(v.shape, sharding, lambda index, v=v: v[index]) for k, v in batch.items()
        }
        _give(jax.device_get(predict_step(params, placed)), laid, numbers, outputs)
        done += sum(map(len, laid))
        progress(done)
    return _predicted(task, examples, slots, outputs)


def _packed(slots, flat, task: Task | Reader, pad: int | None, rows: int, row_multiple: int):
    """Batches of `rows` packed rows, longest slots first, with the (example, window) of the slots
    in each row and the slots themselves."""
    lengths = [len(slots[i][w]) for i, w in flat]
    packed = pack(lengths, task.layout.length, task.layout.slots)
    size = -(-min(rows, max(1, len(packed))) // row_multiple) * row_multiple
    for at in range(0, len(packed), size):
        part = packed[at : at + size]
        part = part + [[]] * (size - len(part))
        numbers = [[flat[n] for n in row] for row in part]
        laid = [[slots[i][w] for i, w in row] for row in numbers]
        batch = assemble(laid, task.layout, pad)
        batch["rows"] = np.arange(size, dtype=np.int32)
        yield numbers, laid, batch


def task_counts(task: Task, examples: list[Example], predicted: list[Prediction]) -> list[Counts]:
    """The counts of each example; their sum, finished, is the split's metrics.

    Where predictions tell how far no answer is ahead, the sum also tunes the threshold for it. That
    is left out of `task.counts`: it is two names for each question, too many to resample.
    """
    found = []
    for number, (example, prediction) in enumerate(zip(examples, predicted, strict=True)):
        counts = task.counts(example, prediction)
        if "null_score_difference" in prediction:
            best = next((a["text"] for a in prediction["answers"] if a["text"]), "")
            counts |= answers.threshold_counts(
                number, example["answers"]["text"], best, prediction["null_score_difference"]
            )
        found.append(counts)
    return found

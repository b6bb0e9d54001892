"""What a fine-tuning task answers: which slots, which head and loss, how to read a prediction."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from research.data.batch import Layout, Slot
from research.generation.decoding import DecodingConfig
from research.objectives.protocol import Objective

Example = Mapping[str, Any]
Prediction = dict[str, Any]
Outputs = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Task:
    """One task on one data set, as pure functions.

    kind: what its examples are ("classification", "tokens", "question", "story").
    objective: head, loss and device-side outputs.
    slots: (example, index, labelled) -> its slots, several where it is cut into windows. With
        labelled False the example has no label and its slots count nothing.
    predict: (example, its slots, their outputs) -> the prediction, a dict of JSON values. The
        outputs of a slot are its rows of the objective's "slot" arrays and, under "token", the
        positions it lies on.
    counts: (example, prediction) -> sums that `finish` turns into the split's metrics.
    metric: the name of the one number a table shows.
    show: (example, prediction) -> one readable line.
    prompt: for tasks that generate: example -> the text to go on from, after one end-of-text
        token; None for the others. What was generated joins the prediction as its "text".
    max_new_tokens: how many tokens are generated at most, `decoding`: how.
    higher_is_better: whether a higher value of `metric` is better.
    """

    name: str
    kind: str
    layout: Layout
    objective: Objective
    slots: Callable[[Example, int, bool], list[Slot]]
    predict: Callable[[Example, Sequence[Slot], Sequence[Outputs]], Prediction]
    counts: Callable[[Example, Prediction], dict[str, float]]
    finish: Callable[[Mapping[str, float]], dict[str, Any]]
    metric: str
    show: Callable[[Example, Prediction], str]
    prompt: Callable[[Example], str] | None = None
    max_new_tokens: int = 0
    decoding: DecodingConfig = DecodingConfig()
    higher_is_better: bool = True

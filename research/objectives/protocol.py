"""What an objective and a task answer alike: which head, which loss, which metrics.

Axes: R rows, L positions of a row, D width.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from research.models.attention import Pattern
from research.models.config import ModelConfig

Batch = Mapping[str, Array]
Sums = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """One loss on one head, as pure functions.

    name: also the name of its head, its loss and the prefix of its counts.
    pattern: the attention that the loss needs.
    head: the module whose params are `params["heads"][name]`, or None.
    weight: batch -> the loss's total weight, a function of the batch alone.
    loss: (params, model, hidden [R, L, D], batch, row_keys) -> (sum of the loss over its weighted
        items, counts). Counts are sums too, so that a split's metrics are exact. row_keys [R]
        turn a head's own dropout on.
    finish: counts summed over a split (floats) -> the split's metrics.
    head_name: of the head in the params, where it is not `name`: objectives may share one.
    rows: (first, end, cycle): the loss is of the rows of a batch with first <= row % cycle < end;
        in a mixture of objectives each has its own.
    outputs: (params, model, hidden, batch) -> arrays from which predictions are read, grouped by
        what they belong to: {"slot": {name: [R, S, ...]}, "token": {name: [R, L, ...]},
        "predict": {name: [R, P, ...]}}.
    """

    name: str
    pattern: Pattern
    head: nn.Module | None
    weight: Callable[[Batch], Array]
    loss: Callable[
        [Any, ModelConfig, Float[Array, "R L D"], Batch, Array | None], tuple[Array, Sums]
    ]
    finish: Callable[[Mapping[str, float]], dict[str, float]]
    outputs: Callable[[Any, ModelConfig, Float[Array, "R L D"], Batch], dict[str, Sums]]
    head_name: str = ""
    rows: tuple[int, int, int] = (0, 1, 1)

    @property
    def share(self) -> float:
        """Of the rows of a batch, and of its loss in the sum of all losses."""
        first, end, cycle = self.rows
        return (end - first) / cycle


def continues_with(objectives: Sequence[Objective]) -> Pattern:
    """The attention with which a model with these objectives continues text: causal if it can."""
    found = {o.pattern for o in objectives}
    return "prefix" if "prefix" in found and "causal" not in found else "causal"


def heads_of(objectives: Sequence[Objective]) -> dict[str, nn.Module]:
    """The heads with parameters, by name."""
    return {o.head_name or o.name: o.head for o in objectives if o.head is not None}

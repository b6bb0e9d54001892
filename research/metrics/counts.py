"""What all metrics share: they are made from counts that can be summed.

A family of metrics is a module beside this one, `classification`, `entities`, `answers` or
`language`. It says which counts one example gives (a plain dict of floats, by a name or by what is
counted) and has a function `finish(counts)` that turns summed counts into numbers. Because only
sums are carried from batch to batch, a number over a whole split is exact however the split was cut
into batches, and a jackknife can leave out examples of any of them (see `jackknife`).

All shares (accuracy, F1, recall, exact match) are between 0 and 1.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping

Counts = dict[Hashable, float]
Finish = Callable[[Mapping[Hashable, float]], dict[str, float]]


def total(counts: Iterable[Mapping[Hashable, float]]) -> Counts:
    """The sum of several counts, key by key; a key that a dict lacks counts as 0.

    Sums are rounded once (`math.fsum`), so that the order of the examples cannot be seen in them.
    """
    columns: dict[Hashable, list[float]] = {}
    for row in counts:
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {key: math.fsum(values) for key, values in columns.items()}


def ratio(part: float, whole: float) -> float:
    """part / whole, and 0 where there is nothing to divide by (no entity found, no label seen)."""
    return part / whole if whole else 0.0


def mean(part: float, whole: float) -> float:
    """part / whole. Raises ValueError where nothing was counted."""
    if not whole > 0:
        raise ValueError(f"nothing was counted: {whole}")
    return part / whole


def harmonic(precision: float, recall: float) -> float:
    """F1, the harmonic mean of precision and recall; 0 if both are 0."""
    return ratio(2 * precision * recall, precision + recall)

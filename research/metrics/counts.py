"""Counts that can be summed, from which all metrics are computed.

Each other module here has a family of metrics. Its `count` returns the counts of one example, a
dict of floats whose keys are names or the things counted; its `compute(counts)` turns summed counts
into metrics. Only sums pass from batch to batch, so the metrics of a split are exact however it was
cut into batches, and a jackknife can leave out any of the examples (see `jackknife`).

Accuracy, F1, recall and exact match are between 0 and 1.
"""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping

Counts = dict[Hashable, float]
MetricsFn = Callable[[Mapping[Hashable, float]], dict[str, float]]


def total(counts: Iterable[Mapping[Hashable, float]]) -> Counts:
    """Sums several counts key by key; a missing key counts as 0.

    Each sum is rounded once (`math.fsum`), so it does not depend on the order of the examples.
    """
    columns: dict[Hashable, list[float]] = {}
    for row in counts:
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {key: math.fsum(values) for key, values in columns.items()}


def to_json(counts: Mapping[Hashable, float]) -> dict[str, float]:
    """Returns the counts with names as keys: a tuple of things counted becomes its JSON."""
    return {key if isinstance(key, str) else json.dumps(key): n for key, n in counts.items()}


def from_json(counts: Mapping[str, float]) -> Counts:
    """The inverse of `to_json`."""
    return {tuple(json.loads(key)) if key[:1] == "[" else key: n for key, n in counts.items()}


def ratio(part: float, whole: float) -> float:
    """Returns part / whole, or 0 if whole is 0 (no entity predicted, no label seen)."""
    return part / whole if whole else 0.0


def mean(part: float, whole: float) -> float:
    """Returns part / whole. Raises ValueError if nothing was counted."""
    if not whole > 0:
        raise ValueError(f"nothing was counted: {whole}")
    return part / whole


def harmonic(precision: float, recall: float) -> float:
    """Returns F1, the harmonic mean of precision and recall; 0 if both are 0."""
    return ratio(2 * precision * recall, precision + recall)

"""How sure is a gap between two systems: the paired bootstrap over test examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from research.evaluation.metrics import Finish, total

Run = Sequence[Mapping[str, float]]

CHUNK = 64  # resamples drawn at a time, which bounds the memory to 64 × examples numbers


@dataclass(frozen=True)
class Gap:
    """The difference of a metric: ours minus theirs, its standard error, and a 95 % interval."""

    difference: float
    error: float
    low: float
    high: float


def paired_bootstrap(
    ours: Sequence[Run],
    theirs: Sequence[Run],
    finish: Finish,
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
) -> Gap:
    """Compares two systems on the same test examples (Efron and Tibshirani 1993; Koehn 2004).

    A system is one or more runs (seeds); its metric is the mean over them. A run is the counts of
    each unit that is drawn, in the same order everywhere: of every example, or, where examples of
    one document are alike, the sum over a document. In each resample as many units as there are
    come from the test set with replacement, the same ones for all runs; their counts are summed
    and `finish(sums)[metric]` is taken, so metrics of a whole corpus, such as entity F1, come out
    right. The interval goes from the 2.5th to the 97.5th percentile of the resampled differences.
    It covers the choice of test examples, not the choice of seeds.

    Resample k is drawn from (seed, k) alone. Raises ValueError if runs differ in length or have
    fewer than two units, and KeyError if `finish` does not make the metric.
    """
    runs = [*ours, *theirs]
    lengths = {len(run) for run in runs}
    if not ours or not theirs or len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(
            f"both systems need runs over the same two or more examples; there are "
            f"{[len(run) for run in ours]} and {[len(run) for run in theirs]}"
        )
    (units,) = lengths
    tables = [_table(run) for run in runs]
    signs = [1 / len(ours)] * len(ours) + [-1 / len(theirs)] * len(theirs)

    differences = np.zeros(resamples)
    for first in range(0, resamples, CHUNK):
        chunk = range(first, min(first + CHUNK, resamples))
        draws = np.stack([_draw(seed, k, units) for k in chunk])
        for (keys, table), sign in zip(tables, signs, strict=True):
            for k, sums in zip(chunk, draws @ table, strict=True):
                differences[k] += sign * finish(dict(zip(keys, sums.tolist(), strict=True)))[metric]

    measured = [sign * finish(total(run))[metric] for run, sign in zip(runs, signs, strict=True)]
    low, high = np.percentile(differences, [2.5, 97.5])
    return Gap(sum(measured), float(differences.std(ddof=1)), float(low), float(high))


def _table(run: Run) -> tuple[list[str], np.ndarray]:
    """The counts of a run as their names and numbers [unit, name]."""
    keys = sorted({key for counts in run for key in counts})
    return keys, np.array([[counts.get(key, 0.0) for key in keys] for counts in run])


def _draw(seed: int, resample: int, units: int) -> np.ndarray:
    """How often each unit is drawn, [units] float64."""
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, resample]))
    return np.bincount(generator.integers(0, units, units), minlength=units).astype(np.float64)

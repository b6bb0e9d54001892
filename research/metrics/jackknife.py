"""Standard errors of the gap between two systems, by a jackknife over test examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from research.draws import generator
from research.metrics.counts import Counts, MetricsFn, total

Run = Sequence[Counts]

LEVEL = 0.95  # of intervals
GROUPS = 200  # at most; each is left out once, so this bounds the time


@dataclass(frozen=True)
class Gap:
    """The difference of a metric (ours minus theirs), its standard error and the degrees of freedom
    of Student's t. The fields are numbers, or arrays of many gaps.

    `interval` and `p` belong to the same test: p < 1 - LEVEL if the interval does not contain 0.
    """

    difference: float
    error: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the confidence interval at LEVEL."""
        reach = self.error * stats.t.ppf((1 + LEVEL) / 2, self.freedom)
        return self.difference - reach, self.difference + reach

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference."""
        return 2 * stats.t.sf(np.abs(self.difference) / self.error, self.freedom)


def paired_jackknife(
    ours: Sequence[Run], theirs: Sequence[Run], compute: MetricsFn, metric: str
) -> Gap | None:
    """Compares two systems on the same test examples (Tukey 1958). Returns None if the error is 0
    or not finite, or if the metric rests on a single unit.

    A system is one or more runs (seeds); its metric is the mean over them. A run holds the counts
    of each unit, in the same order in all runs. A unit is an example, or a document (the sum over
    its examples) if a document's examples are alike. Each unit in turn is left out of all runs, and
    `compute(sums)[metric]` is taken of the others, so corpus metrics such as entity F1 come out
    right. With more than GROUPS units, groups drawn at random are left out instead.

    The error is that of other test examples, not of other seeds.

    Raises ValueError if runs differ in length or have fewer than two units, and KeyError if
    `compute` does not return the metric.
    """
    runs = [*ours, *theirs]
    lengths = {len(run) for run in runs}
    if not ours or not theirs or len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(
            f"both systems need runs over the same two or more examples; there are "
            f"{[len(run) for run in ours]} and {[len(run) for run in theirs]}"
        )
    (units,) = lengths
    group_of = generator("jackknife").permutation(units) % GROUPS
    members = [np.flatnonzero(group_of == group) for group in range(min(units, GROUPS))]
    signs = [1 / len(ours)] * len(ours) + [-1 / len(theirs)] * len(theirs)

    parts, without = [], np.zeros(len(members))
    for run, sign in zip(runs, signs, strict=True):
        whole = total(run)
        parts.append(sign * compute(whole)[metric])
        for group, units_left_out in enumerate(members):
            less = total(run[unit] for unit in units_left_out)
            rest = {key: value - less.get(key, 0.0) for key, value in whole.items()}
            without[group] += sign * compute(rest).get(metric, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        error, freedom = spread(without)
    # A metric that does not vary still differs in its last digits.
    if not error > 1e-12 * max(map(abs, parts)):
        return None
    return Gap(sum(parts), float(error), float(freedom))


def spread(without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the standard error and degrees of freedom of a statistic from its leave-one-out
    values, [..., units].

    If a few units, such as long documents, make most of the error, n - 1 degrees of freedom are too
    many. Following Satterthwaite (1946), they come from the variance of the squared error, here by
    the fourth moment; n normal values have n - 1 on average.
    """
    units = without.shape[-1]
    apart = without - without.mean(-1, keepdims=True)
    squares = (apart**2).sum(-1)
    freedom = 3 * squares**2 / (apart**4).sum(-1) - 3
    return np.sqrt((units - 1) / units * squares), np.clip(freedom, 1, units - 1)

"""How sure is a gap between two systems: the jackknife over test examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from research.draws import generator
from research.metrics.counts import Counts, Finish, total

Run = Sequence[Counts]

LEVEL = 0.95  # of intervals
GROUPS = 200  # of units, at most: each is left out once, which bounds the time


@dataclass(frozen=True)
class Gap:
    """The difference of a metric, ours minus theirs, its standard error, and the degrees of freedom
    that Student's t has for it. Numbers, or arrays of many gaps.

    Interval and p are of one test: p is below 1 - LEVEL where 0 is not in the interval.
    """

    difference: float
    error: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """Its ends at LEVEL."""
        reach = self.error * stats.t.ppf((1 + LEVEL) / 2, self.freedom)
        return self.difference - reach, self.difference + reach

    @property
    def p(self) -> float:
        """Of no difference, two-sided."""
        return 2 * stats.t.sf(np.abs(self.difference) / self.error, self.freedom)


def paired_jackknife(
    ours: Sequence[Run], theirs: Sequence[Run], finish: Finish, metric: str
) -> Gap | None:
    """Compares two systems on the same test examples (Tukey 1958); None where the error is 0 or
    not finite, or where the metric rests on a single unit.

    A system is one or more runs (seeds); its metric is the mean over them. A run is the counts of
    each unit, in the same order everywhere: of every example, or, where examples of one document
    are alike, the sum over a document. Each unit in turn is left out of all runs, and
    `finish(sums)[metric]` is taken of the others, so metrics of a whole corpus, such as entity F1,
    come out right. Of more than GROUPS units, groups drawn at random are left out.

    It says how much other test examples would change the gap, not how much other seeds would.

    Raises ValueError if runs differ in length or have fewer than two units, and KeyError if
    `finish` does not make the metric.
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
        parts.append(sign * finish(whole)[metric])
        for group, units_left_out in enumerate(members):
            less = total(run[unit] for unit in units_left_out)
            rest = {key: value - less.get(key, 0.0) for key, value in whole.items()}
            without[group] += sign * finish(rest).get(metric, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        error, freedom = spread(without)
    # What does not vary differs in its last digits.
    if not error > 1e-12 * max(map(abs, parts)):
        return None
    return Gap(sum(parts), float(error), float(freedom))


def spread(without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error and degrees of freedom of a statistic, from its values without each unit
    [..., units].

    Where few units, such as long documents, make most of the error, it is less sure than n - 1
    degrees say. As Satterthwaite (1946), they are taken from the variance of the error's square,
    here by the fourth moment; n normal values have n - 1 on average.
    """
    units = without.shape[-1]
    apart = without - without.mean(-1, keepdims=True)
    squares = (apart**2).sum(-1)
    freedom = 3 * squares**2 / (apart**4).sum(-1) - 3
    return np.sqrt((units - 1) / units * squares), np.clip(freedom, 1, units - 1)

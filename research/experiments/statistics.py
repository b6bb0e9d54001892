"""How sure a difference between two rows of a table is, over seeds and over test examples."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from research.evaluation.bootstrap import Gap

LEVEL = 0.95  # of intervals
FEWEST = 5  # seeds on both sides for a mark of significance


@dataclasses.dataclass(frozen=True)
class Difference:
    """Ours minus theirs.

    seeds: how many there are of each.
    interval: over seeds, by Welch's t; None where one side has a single seed, neither varies, or a
        value is not finite.
    p: of no difference, two-sided, by the same test; None as the interval, and below FEWEST seeds.
    examples: the paired bootstrap over test examples; None where there are none.
    """

    value: float
    seeds: tuple[int, int]
    interval: tuple[float, float] | None
    p: float | None
    examples: Gap | None = None


def difference(
    ours: Sequence[float], theirs: Sequence[float], examples: Gap | None = None
) -> Difference:
    """Compares values of a metric, one for each seed (Welch 1947: the variances may differ)."""
    value = float(np.mean(ours) - np.mean(theirs))
    seeds = (len(ours), len(theirs))
    varies = np.ptp(ours) > 0 or np.ptp(theirs) > 0
    if min(seeds) < 2 or not varies or not np.isfinite([*ours, *theirs]).all():
        return Difference(value, seeds, None, None, examples)
    found = stats.ttest_ind(ours, theirs, equal_var=False)
    low, high = found.confidence_interval(LEVEL)
    p = float(found.pvalue) if min(seeds) >= FEWEST else None
    return Difference(value, seeds, (float(low), float(high)), p, examples)


def corrected(differences: Sequence[Difference]) -> list[float | None]:
    """The p of each difference of one table, corrected for their number (Holm 1979); None where it
    has none."""
    found: list[float | None] = [None] * len(differences)
    tested = [i for i, d in enumerate(differences) if d.p is not None]
    if tested:
        ps = multipletests([differences[i].p for i in tested], method="holm")[1]
        for i, p in zip(tested, ps, strict=True):
            found[i] = float(p)
    return found


def significant(p: float | None) -> bool | None:
    """Whether a corrected p is below 1 - LEVEL; None where there are too few seeds to say."""
    return None if p is None else p < 1 - LEVEL

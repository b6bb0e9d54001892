"""Confidence intervals and significance of differences between two rows of a table."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from research.metrics.jackknife import LEVEL, Gap

FEWEST = 5  # at least this many seeds on both sides for a mark of significance


@dataclasses.dataclass(frozen=True)
class Difference:
    """A row's mean minus that of the baseline.

    seeds: number of seeds of the row and of the baseline.
    over_seeds: by Welch's t; None if one side has a single seed, neither varies, or a value is not
        finite.
    over_examples: by the paired jackknife over test examples; None without test examples.
    """

    value: float
    seeds: tuple[int, int]
    over_seeds: Gap | None
    over_examples: Gap | None = None

    @property
    def over_both(self) -> Gap | None:
        """The gap for other seeds and other test examples; None if either is unknown."""
        if self.over_seeds is None or self.over_examples is None:
            return None
        # Each of the two gaps holds fixed what the other one varies, so their variances add up.
        parts = [(gap.error**2, gap.freedom) for gap in (self.over_seeds, self.over_examples)]
        return _sum_of(self.value, parts)

    @property
    def gaps(self) -> list[Gap]:
        """All known gaps."""
        return [g for g in (self.over_seeds, self.over_examples, self.over_both) if g is not None]

    @property
    def p(self) -> float | None:
        """The p-value of no difference, the largest of all gaps; None without an interval over
        seeds, or with fewer than FEWEST seeds."""
        if self.over_seeds is None or min(self.seeds) < FEWEST:
            return None
        return max(float(gap.p) for gap in self.gaps)


def difference(
    row: Sequence[float], baseline: Sequence[float], examples: Gap | None = None
) -> Difference:
    """Compares the values of a metric in two rows, one value per seed."""
    value = float(np.mean(row) - np.mean(baseline))
    seeds = (len(row), len(baseline))
    varies = np.ptp(row) > 0 or np.ptp(baseline) > 0
    if min(seeds) < 2 or not varies or not np.isfinite([*row, *baseline]).all():
        return Difference(value, seeds, None, examples)
    return Difference(value, seeds, welch(np.array(row), np.array(baseline)), examples)


def welch(row: np.ndarray, baseline: np.ndarray) -> Gap:
    """Returns the gap of two means over seeds [..., seeds] with unequal variances (Welch 1947)."""
    parts = [(v.var(-1, ddof=1) / v.shape[-1], v.shape[-1] - 1) for v in (row, baseline)]
    return _sum_of(row.mean(-1) - baseline.mean(-1), parts)


def _sum_of(value: float, parts: Sequence[tuple[float, float]]) -> Gap:
    """Returns a gap whose variance is the sum of the parts' (Satterthwaite 1946).

    parts: (variance, degrees of freedom).
    """
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    return Gap(value, np.sqrt(variance), freedom)


def corrected(differences: Sequence[Difference]) -> list[float | None]:
    """Corrects the p-value of each difference of a table for their number (Holm 1979); None for a
    difference without one."""
    ps = [d.p for d in differences]
    ascending = sorted((i for i, p in enumerate(ps) if p is not None), key=ps.__getitem__)
    largest = 0.0
    for left, i in enumerate(ascending):
        largest = ps[i] = min(1.0, max(largest, ps[i] * (len(ascending) - left)))
    return ps


def significant(p: float | None) -> bool | None:
    """Whether a corrected p-value is below 1 - LEVEL; None if it is unknown."""
    return None if p is None else p < 1 - LEVEL


def reading(gap: Difference, lower_is_better: bool, p: float | None) -> str:
    """Names a difference: "better" or "worse" if significant, "perhaps" so if all intervals lie on
    one side of 0, or else "not resolved".

    p: the corrected p-value.
    """
    if not math.isfinite(gap.value):
        return "not finite"
    if min(gap.seeds) < 2:
        return "one seed"
    if gap.over_seeds is None:
        return "no variation"
    signs = {int(low > 0) - int(high < 0) for low, high in (g.interval for g in gap.gaps)}
    if len(signs) > 1 or 0 in signs:
        return "not resolved"
    word = "better" if (gap.value < 0) == lower_is_better else "worse"
    return word if significant(p) else f"perhaps {word}"

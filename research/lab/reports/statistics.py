"""How sure a difference between two rows of a table is, over seeds and over test examples."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from research.metrics.jackknife import LEVEL, Gap

FEWEST = 5  # seeds on both sides for a mark of significance


@dataclasses.dataclass(frozen=True)
class Difference:
    """Ours minus theirs.

    seeds: how many there are of each.
    over_seeds: by Welch's t; None where one side has a single seed, neither varies, or a value is
        not finite.
    over_examples: the paired jackknife over test examples; None where there are none.
    """

    value: float
    seeds: tuple[int, int]
    over_seeds: Gap | None
    over_examples: Gap | None = None

    @property
    def over_both(self) -> Gap | None:
        """How sure the difference is for other seeds and other test examples; None where either is
        not known."""
        if self.over_seeds is None or self.over_examples is None:
            return None
        # Each of the two takes for fixed what the other one varies.
        parts = [(gap.error**2, gap.freedom) for gap in (self.over_seeds, self.over_examples)]
        return _added(self.value, parts)

    @property
    def gaps(self) -> list[Gap]:
        """All that are known."""
        return [g for g in (self.over_seeds, self.over_examples, self.over_both) if g is not None]

    @property
    def p(self) -> float | None:
        """Of no difference: the largest of the gaps'; None where there is no interval over seeds,
        and below FEWEST seeds."""
        if self.over_seeds is None or min(self.seeds) < FEWEST:
            return None
        return max(float(gap.p) for gap in self.gaps)


def difference(
    ours: Sequence[float], theirs: Sequence[float], examples: Gap | None = None
) -> Difference:
    """Compares values of a metric, one for each seed."""
    value = float(np.mean(ours) - np.mean(theirs))
    seeds = (len(ours), len(theirs))
    varies = np.ptp(ours) > 0 or np.ptp(theirs) > 0
    if min(seeds) < 2 or not varies or not np.isfinite([*ours, *theirs]).all():
        return Difference(value, seeds, None, examples)
    return Difference(value, seeds, welch(np.array(ours), np.array(theirs)), examples)


def welch(ours: np.ndarray, theirs: np.ndarray) -> Gap:
    """The gap of two means over seeds [..., seeds], whose variances may differ (Welch 1947)."""
    parts = [(v.var(-1, ddof=1) / v.shape[-1], v.shape[-1] - 1) for v in (ours, theirs)]
    return _added(ours.mean(-1) - theirs.mean(-1), parts)


def _added(value: float, parts: Sequence[tuple[float, float]]) -> Gap:
    """A gap whose variance is a sum; parts: (variance, degrees of freedom) (Satterthwaite 1946)."""
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    return Gap(value, np.sqrt(variance), freedom)


def corrected(differences: Sequence[Difference]) -> list[float | None]:
    """The p of each difference of one table, corrected for their number (Holm 1979); None where it
    has none."""
    ps = [d.p for d in differences]
    ascending = sorted((i for i, p in enumerate(ps) if p is not None), key=ps.__getitem__)
    largest = 0.0
    for left, i in enumerate(ascending):
        largest = ps[i] = min(1.0, max(largest, ps[i] * (len(ascending) - left)))
    return ps


def significant(p: float | None) -> bool | None:
    """Whether a corrected p is below 1 - LEVEL; None where there are too few seeds to say."""
    return None if p is None else p < 1 - LEVEL


def reading(found: Difference, lower_is_better: bool, p: float | None) -> str:
    """What a difference may be called: "better" or "worse" where it is significant, "perhaps" so
    where all intervals are on one side of 0, else "not resolved".

    p: corrected.
    """
    if not math.isfinite(found.value):
        return "not finite"
    if min(found.seeds) < 2:
        return "one seed"
    if found.over_seeds is None:
        return "no variation"
    signs = {int(low > 0) - int(high < 0) for low, high in (gap.interval for gap in found.gaps)}
    if len(signs) > 1 or 0 in signs:
        return "not resolved"
    word = "better" if (found.value < 0) == lower_is_better else "worse"
    return word if significant(p) else f"perhaps {word}"

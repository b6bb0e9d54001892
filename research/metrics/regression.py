"""Pearson's and Spearman's correlation and the mean squared error."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from research.metrics.counts import Counts


def count(gold: float, predicted: float) -> Counts:
    """Returns the count of one pair (gold, predicted), so that sums keep every pair."""
    return {(gold, predicted): 1.0}


def compute(counts: Mapping[tuple[float, float], float]) -> dict[str, float]:
    """Returns pearson, spearman (ties share their mean rank), correlation (their mean, as GLUE
    reports for STS-B) and mean_squared_error. The correlation with a constant is 0."""
    pairs = np.array(list(counts), float).reshape(-1, 2)
    pairs = np.repeat(pairs, [round(n) for n in counts.values()], axis=0)
    gold, predicted = pairs[:, 0], pairs[:, 1]
    pearson = spearman = 0.0
    if len(pairs) > 1 and np.ptp(gold) and np.ptp(predicted):
        pearson = float(stats.pearsonr(gold, predicted).statistic)
        spearman = float(stats.spearmanr(gold, predicted).statistic)
    return {
        "pearson": pearson,
        "spearman": spearman,
        "correlation": (pearson + spearman) / 2,
        "mean_squared_error": float(np.mean((gold - predicted) ** 2)) if len(pairs) else 0.0,
    }

"""Pearson's and Spearman's correlation and the mean squared error."""

import json
from collections.abc import Mapping

import numpy as np
from scipy import stats

from research.metrics.counts import Counts


def count(gold: float, predicted: float) -> Counts:
    """One example; the key is the JSON of [gold, predicted], so that sums lose no pair."""
    return {json.dumps([gold, predicted]): 1.0}


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """pearson, spearman (ties share their mean rank), correlation (the mean of the two, as GLUE
    has it for STS-B) and mean_squared_error; a correlation with a constant is 0."""
    kept = {key: n for key, n in counts.items() if n}
    pairs = np.array([json.loads(key) for key in kept], float).reshape(-1, 2)
    pairs = np.repeat(pairs, [round(n) for n in kept.values()], axis=0)
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

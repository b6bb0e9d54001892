"""Accuracy, macro-F1 and macro-recall from the cells of a confusion matrix."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from research.metrics.counts import Counts, harmonic, ratio


def count(gold: str, predicted: str) -> Counts:
    """Returns the count of one example: its cell (gold, predicted) of the confusion matrix."""
    return {(gold, predicted): 1.0}


def confusion(
    counts: Mapping[tuple[str, str], float], order: Sequence[str] = ()
) -> tuple[list[str], np.ndarray]:
    """Returns the labels and the confusion matrix, [gold label, predicted label].

    Labels come in the order of `order`, then the others, sorted.
    """
    places = {label: i for i, label in enumerate(order)}
    labels = {label for cell in counts for label in cell}
    labels = sorted(labels, key=lambda label: (places.get(label, len(places)), label))
    index = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)))
    for (gold, predicted), value in counts.items():
        matrix[index[gold], index[predicted]] += value
    return labels, matrix


def compute(counts: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Returns accuracy, macro_f1, macro_recall.

    macro_recall is the unweighted mean over the gold labels, as in SemEval and TweetEval; labels
    that are only predicted are left out (scikit-learn's balanced_accuracy_score). macro_f1 is the
    mean over gold and predicted labels; only predicted ones count 0 (scikit-learn's f1_score).
    """
    _, matrix = confusion({key: value for key, value in counts.items() if value})
    hits, gold, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    recall = [ratio(h, g) for h, g in zip(hits, gold, strict=True)]  # 0 without gold labels
    precision = [ratio(h, p) for h, p in zip(hits, predicted, strict=True)]
    f1 = [harmonic(p, r) for p, r in zip(precision, recall, strict=True)]
    return {
        "accuracy": float(ratio(hits.sum(), matrix.sum())),
        "macro_f1": float(ratio(sum(f1), len(f1))),
        "macro_recall": float(ratio(sum(recall), np.count_nonzero(gold))),
    }


def binary(counts: Mapping[tuple[str, str], float], labels: Sequence[str]) -> dict[str, float]:
    """Returns f1 of the second of two labels and matthews, the correlation of labels and
    predictions (Matthews 1975; 0 if either is constant), as scikit-learn does."""
    no, yes = labels
    cells = [(yes, yes), (yes, no), (no, yes), (no, no)]
    hits, misses, alarms, rest = (counts.get(cell, 0.0) for cell in cells)
    sides = (hits + misses) * (hits + alarms) * (rest + misses) * (rest + alarms)
    return {
        "f1": float(ratio(2 * hits, 2 * hits + misses + alarms)),
        "matthews": float(ratio(hits * rest - misses * alarms, math.sqrt(sides))),
    }

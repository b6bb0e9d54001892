"""Micro- and macro-F1 of label sets, and the share of sets that match exactly."""

from collections.abc import Collection, Mapping, Sequence

from research.metrics.counts import Counts, ratio


def count(gold: Collection[str], predicted: Collection[str]) -> Counts:
    """Returns the hits, misses and false alarms of each label in one example."""
    counts: Counts = {"examples": 1.0, "exact": float(set(gold) == set(predicted))}
    for label in set(gold) | set(predicted):
        both = label in gold and label in predicted
        kind = "hit" if both else "miss" if label in gold else "alarm"
        counts[f"{kind}/{label}"] = 1.0
    return counts


def compute(counts: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Returns micro_f1, macro_f1 (over all labels; one that never occurs has 0), exact_match."""

    def cell(kind: str, label: str) -> float:
        return counts.get(f"{kind}/{label}", 0.0)

    def f1(hits: float, others: float) -> float:
        return ratio(2 * hits, 2 * hits + others)

    hits = {label: cell("hit", label) for label in labels}
    others = {label: cell("miss", label) + cell("alarm", label) for label in labels}
    return {
        "micro_f1": f1(sum(hits.values()), sum(others.values())),
        "macro_f1": sum(f1(hits[n], others[n]) for n in labels) / len(labels),
        "exact_match": ratio(counts.get("exact", 0.0), counts.get("examples", 0.0)),
    }

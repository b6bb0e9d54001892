"""Exact match and token F1 of extracted or generated answers, as in SQuAD's official scripts.

Texts are compared without case, punctuation, articles and extra spaces (Rajpurkar et al. 2016).
With several gold answers the best match counts. If a question has no answer, only an empty
prediction is right, without partial credit (Rajpurkar et al. 2018).

The scripts of versions 1.1 and 2.0 differ if normalisation leaves nothing of a text, such as "the":
1.1 gives it an F1 of 0 with any other text, 2.0 skips such gold answers.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from research.metrics.counts import Counts, harmonic, ratio

ARTICLES = re.compile(r"\b(a|an|the)\b")
MEASURES = {"exact_match": "exact", "f1": "f1"}  # our names -> those of the official scripts
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower-cases a text and drops ASCII punctuation and articles; one space separates words."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(gold: str, predicted: str) -> float:
    """Returns 1 if the normalised texts are equal, else 0."""
    return float(normalise(gold) == normalise(predicted))


def token_f1(gold: str, predicted: str) -> float:
    """Returns F1 of the two bags of normalised words; if one is empty, 1 only if both are."""
    truth, guess = normalise(gold).split(), normalise(predicted).split()
    if not truth or not guess:
        return float(truth == guess)
    shared = sum((Counter(truth) & Counter(guess)).values())
    return harmonic(shared / len(guess), shared / len(truth))


def count(golds: Sequence[str], predicted: str) -> Counts:
    """Returns the counts of one question: questions, exact_match, f1 (best over the gold answers).

    A question without gold answers is unanswerable. Gold answers that normalise to an empty text
    are skipped, as in the official script of SQuAD 2.0.
    """
    truths = [gold for gold in golds if normalise(gold)] or [""]
    return {
        "questions": 1.0,
        "exact_match": max(exact_match(gold, predicted) for gold in truths),
        "f1": max(token_f1(gold, predicted) for gold in truths),
    }


def count_answerable(golds: Sequence[str], predicted: str) -> Counts:
    """Returns the same counts by SQuAD 1.1's official script, where every question has an answer.

    Raises ValueError if there is no gold answer.
    """
    if not golds:
        raise ValueError("a question without a gold answer cannot be scored by SQuAD 1.1")
    words = [gold for gold in golds if normalise(gold)] if normalise(predicted) else []
    return {
        "questions": 1.0,
        "exact_match": max(exact_match(gold, predicted) for gold in golds),
        "f1": max((token_f1(gold, predicted) for gold in words), default=0.0),
    }


def count_by_kind(golds: Sequence[str], predicted: str) -> Counts:
    """Returns `count`, also under answerable/… or unanswerable/… (HasAns and NoAns of 2.0)."""
    counts = count(golds, predicted)
    kind = "answerable" if golds else "unanswerable"
    return counts | {f"{kind}/{name}": value for name, value in counts.items()}


def threshold_counts(number: int, golds: Sequence[str], best: str, difference: float) -> Counts:
    """Returns counts from which `compute` finds the best threshold, beside `count_by_kind`'s.

    Args:
        number: the question's number; of equal differences the lower number comes first.
        best: the best non-empty answer.
        difference: the score of no answer minus that of `best`.
    """
    scores = count(golds, best)
    # The gain from answering this question, compared with answering none.
    empty_is_right = -float(bool(best))
    return {
        ("threshold", name, difference, number): scores[name] if golds else empty_is_right
        for name in MEASURES
    }


def compute(counts: Mapping[str, float]) -> dict[str, float]:
    """Returns exact_match and f1, averaged over the questions.

    With counts by kind, also their averages over answerable and unanswerable questions
    (f1/answerable, …). With `threshold_counts`, also the best values that a threshold can reach
    (best_exact, best_f1) and these thresholds (best_exact_thresh, best_f1_thresh).
    """
    numbers = {name: _mean(counts, name) for name in MEASURES}
    for kind in ("answerable", "unanswerable"):
        if counts.get(f"{kind}/questions"):
            numbers |= {f"{name}/{kind}": _mean(counts, name, f"{kind}/") for name in MEASURES}
    for name, short in MEASURES.items():
        gains = [(*key[2:], n) for key, n in counts.items() if key[:2] == ("threshold", name)]
        if gains:
            best, threshold = best_threshold(gains, counts.get("unanswerable/questions", 0.0))
            numbers[f"best_{short}"] = ratio(best, counts["questions"])
            numbers[f"best_{short}_thresh"] = threshold
    return numbers


def best_threshold(
    gains: Sequence[tuple[float, int, float]], unanswerable: float
) -> tuple[float, float]:
    """Returns (sum of scores, threshold) as `find_best_thresh` of evaluate-v2.0.py does.

    Questions are answered one by one, lowest difference first. The threshold is the difference of
    the last question answered in the best sum, or 0 if answering none is best.

    Args:
        gains: (difference, number, score gained by answering the question).
        unanswerable: number of questions without an answer: the sum if none is answered.
    """
    best = reached = unanswerable
    threshold = 0.0
    for difference, _, gain in sorted(gains):
        reached += gain
        if reached > best:
            best, threshold = reached, difference
    return best, threshold


def _mean(counts: Mapping[str, float], name: str, group: str = "") -> float:
    return ratio(counts.get(f"{group}{name}", 0.0), counts.get(f"{group}questions", 0.0))

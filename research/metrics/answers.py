"""Exact match and token F1 of answers, extracted or generated, as SQuAD's official scripts do.

Texts are compared without case, punctuation, articles and superfluous blanks (Rajpurkar et al.
2016); of several gold answers the best match counts. A question without an answer is right if the
prediction is empty, and no partial credit is given there (Rajpurkar et al. 2018).

The scripts of versions 1.1 and 2.0 differ where nothing is left of a text, as of "the": 1.1 gives
it an F1 of 0 with anything, 2.0 passes over such gold answers.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from research.metrics.counts import Counts, harmonic, ratio

ARTICLES = re.compile(r"\b(a|an|the)\b")
MEASURES = {"exact_match": "exact", "f1": "f1"}  # and their names in the official scripts
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case without ASCII punctuation and articles, words separated by one blank."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(gold: str, predicted: str) -> float:
    """1 if the normalised texts are the same."""
    return float(normalise(gold) == normalise(predicted))


def token_f1(gold: str, predicted: str) -> float:
    """F1 of the two bags of normalised words; if one of them is empty, 1 only if both are."""
    truth, guess = normalise(gold).split(), normalise(predicted).split()
    if not truth or not guess:
        return float(truth == guess)
    shared = sum((Counter(truth) & Counter(guess)).values())
    return harmonic(shared / len(guess), shared / len(truth))


def count(golds: Sequence[str], predicted: str) -> Counts:
    """Counts of one question: questions, exact_match, f1 (the best over the gold answers).

    No gold answer means that the question cannot be answered. Gold answers of which nothing is
    left by the normalisation are passed over, as the official script of SQuAD 2.0 does.
    """
    truths = [gold for gold in golds if normalise(gold)] or [""]
    return {
        "questions": 1.0,
        "exact_match": max(exact_match(gold, predicted) for gold in truths),
        "f1": max(token_f1(gold, predicted) for gold in truths),
    }


def count_answerable(golds: Sequence[str], predicted: str) -> Counts:
    """The same by the official script of SQuAD 1.1, where every question has an answer.

    Raises ValueError where there is no gold answer.
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
    """`count`, and the same again as answerable/… or unanswerable/…: HasAns and NoAns of 2.0."""
    counts = count(golds, predicted)
    kind = "answerable" if golds else "unanswerable"
    return counts | {f"{kind}/{name}": value for name, value in counts.items()}


def threshold_counts(number: int, golds: Sequence[str], best: str, difference: float) -> Counts:
    """What `finish` finds the best threshold from, beside the `count_by_kind` of each question.

    Args:
        number: of the question; between equal differences the lower one comes first.
        best: the best answer that is not empty.
        difference: the score of no answer minus that of `best`.
    """
    scores = count(golds, best)
    # What is won by answering, against a split in which no question is answered.
    empty_is_right = -float(bool(best))
    return {
        ("threshold", name, difference, number): scores[name] if golds else empty_is_right
        for name in MEASURES
    }


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """exact_match and f1, averaged over the questions.

    Where they were counted by kind, also over the answerable and the unanswerable ones
    (f1/answerable, …). With `threshold_counts` also the best that a threshold could reach,
    best_exact and best_f1, and the threshold, best_exact_thresh and best_f1_thresh.
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
    """(sum of scores, threshold) as `find_best_thresh` of evaluate-v2.0.py finds them.

    Questions are answered one after the other, those most surely answerable first; the threshold
    is the difference of the last one in the best sum, or 0 if answering none is best.

    Args:
        gains: (difference, number, what answering the question adds to the sum).
        unanswerable: how many have no answer, the sum of a split in which none is answered.
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

"""Exact match and token F1 of answers, extracted or generated, as SQuAD's official scripts do.

Texts are compared without case, punctuation, articles and superfluous blanks (Rajpurkar et al.
2016); of several gold answers the best match counts. A question without an answer is right if the
prediction is empty, and no partial credit is given there (Rajpurkar et al. 2018).
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from research.evaluation.metrics import Counts, harmonic, ratio

ARTICLES = re.compile(r"\b(a|an|the)\b")
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


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """exact_match and f1, averaged over the questions."""
    questions = counts.get("questions", 0.0)
    return {
        "exact_match": ratio(counts.get("exact_match", 0.0), questions),
        "f1": ratio(counts.get("f1", 0.0), questions),
    }

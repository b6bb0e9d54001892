"""ROUGE-L of a text against its references (Lin 2004, https://aclanthology.org/W04-1013).

F1 of the longest common subsequence of words over the whole text, as the package rouge-score
computes "rougeL" with use_stemmer=False. Words are runs of a to z and 0 to 9 in the lower-cased
text, so it suits English and similar languages: a text in another script has no words.
ROUGE-L is a mean over texts; the counts are its sum and the number of texts.
"""

import re
from collections.abc import Mapping, Sequence

from research.metrics.counts import Counts, harmonic, ratio

WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """Splits a text into the words that are compared."""
    return WORD.findall(text.lower())


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence.

    The bits of one integer hold a row of the usual table (Hyyrö 2004, "Bit-parallel LCS-length
    computation revisited"): texts of 1,000 words take a millisecond, not a second.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << i
    ones = (1 << len(one)) - 1
    row = ones  # a bit is 0 where the table grows by one
    for word in other:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & ones
    return len(one) - row.bit_count()


def rouge_l(gold: str, predicted: str) -> float:
    """Returns F1, from 0 to 1; 0 if one of the texts has no words."""
    truth, guess = words(gold), words(predicted)
    common = common_length(truth, guess)
    return harmonic(ratio(common, len(guess)), ratio(common, len(truth)))


def count(golds: Sequence[str], predicted: str) -> Counts:
    """Returns the counts of one text: rouge_l (the best over the references), rouge_texts.

    Without references an empty prediction counts 1 and any other 0, as in token F1.
    """
    if golds:
        best = max(rouge_l(gold, predicted) for gold in golds)
    else:
        best = float(not words(predicted))
    return {"rouge_l": best, "rouge_texts": 1.0}


def compute(counts: Mapping[str, float]) -> dict[str, float]:
    """Returns rouge_l, the mean over the texts."""
    return {"rouge_l": ratio(counts.get("rouge_l", 0.0), counts.get("rouge_texts", 0.0))}

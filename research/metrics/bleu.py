"""Corpus BLEU (Papineni et al. 2002, https://aclanthology.org/P02-1040).

Follows sacrebleu's default (Post 2018, https://aclanthology.org/W18-6319): the case-sensitive
mteval-v13a tokenization, n-grams of up to four words, exponential smoothing of orders without a
match (Chen and Cherry 2014, https://aclanthology.org/W14-3346, method 3). Counts are summed over
the corpus; the mean over texts is a different metric. Values are from 0 to 1, a hundredth of
sacrebleu's.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from research.metrics.counts import Counts

ORDERS = range(1, 5)
ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
CUTS = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),  # ASCII punctuation but ' , - .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # . and , unless a digit comes before …
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # … and after
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def words(text: str) -> list[str]:
    """Splits a text into words as mteval-v13a does."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for name, character in ENTITIES:
        text = text.replace(name, character)
    text = f" {text} "
    for pattern, cut in CUTS:
        text = pattern.sub(cut, text)
    return text.split()


def count(golds: Sequence[str], predicted: str) -> Counts:
    """Returns the counts of one text against its references (no reference: an empty one).

    bleu_words and bleu_gold_words are the lengths of the text and of the reference closest in
    length (of two as close, the shorter). For n from 1 to 4, bleu_n counts the n-grams and
    bleu_right_n the matches, each n-gram at most as often as in a reference.
    """
    guess, truths = words(predicted), [words(gold) for gold in golds or [""]]
    lengths = [len(truth) for truth in truths]
    nearest = min(lengths, key=lambda length: (abs(length - len(guess)), length))
    counts = {"bleu_words": float(len(guess)), "bleu_gold_words": float(nearest)}
    for n in ORDERS:
        ngrams, reference = _ngrams(guess, n), Counter()
        for truth in truths:
            reference |= _ngrams(truth, n)
        counts[f"bleu_{n}"] = float(ngrams.total())
        counts[f"bleu_right_{n}"] = float((ngrams & reference).total())
    return counts


def compute(counts: Mapping[str, float]) -> dict[str, float]:
    """Returns bleu; 0 if nothing matches or no text has four words."""
    matches = [counts.get(f"bleu_right_{n}", 0.0) for n in ORDERS]
    ngrams = [counts.get(f"bleu_{n}", 0.0) for n in ORDERS]
    if not any(matches) or not all(ngrams):
        return {"bleu": 0.0}
    total, smooth = 0.0, 1.0
    for hits, all_n in zip(matches, ngrams, strict=True):
        if not hits:
            smooth *= 2
            hits = 1 / smooth
        total += math.log(hits / all_n)
    length, gold_length = counts["bleu_words"], counts["bleu_gold_words"]
    brevity = min(0.0, 1 - gold_length / length)
    return {"bleu": math.exp(brevity + total / len(ORDERS))}


def _ngrams(sequence: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Counts the n-grams of a sequence."""
    return Counter(tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))

"""BLEU of a corpus (Papineni et al. 2002, https://aclanthology.org/P02-1040).

As sacrebleu computes it by default (Post 2018, https://aclanthology.org/W18-6319): words as
mteval-v13a cuts them, with case, up to four in a row; exponential smoothing of orders without a
match (Chen and Cherry 2014, https://aclanthology.org/W14-3346, method 3). It is a number of a
corpus: its counts are sums, and the mean over texts is something else. From 0 to 1, a hundredth of
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
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # . and , unless a digit is before …
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # … and behind
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def words(text: str) -> list[str]:
    """The words that are compared, mteval-v13a's."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for name, character in ENTITIES:
        text = text.replace(name, character)
    text = f" {text} "
    for pattern, cut in CUTS:
        text = pattern.sub(cut, text)
    return text.split()


def count(golds: Sequence[str], predicted: str) -> Counts:
    """Counts of one text against its references (none: an empty one).

    bleu_words and bleu_gold_words, the latter of the reference nearest in length (the shorter of
    two as near); for n from 1 to 4 bleu_n, the rows of n words, and bleu_right_n, those of them
    that a reference has, each as often as there.
    """
    guess, truths = words(predicted), [words(gold) for gold in golds or [""]]
    lengths = [len(truth) for truth in truths]
    nearest = min(lengths, key=lambda length: (abs(length - len(guess)), length))
    counts = {"bleu_words": float(len(guess)), "bleu_gold_words": float(nearest)}
    for n in ORDERS:
        rows, known = _rows(guess, n), Counter()
        for truth in truths:
            known |= _rows(truth, n)
        counts[f"bleu_{n}"] = float(rows.total())
        counts[f"bleu_right_{n}"] = float((rows & known).total())
    return counts


def finish(counts: Mapping[str, float]) -> dict[str, float]:
    """bleu; 0 where nothing matches, or no text has four words."""
    right = [counts.get(f"bleu_right_{n}", 0.0) for n in ORDERS]
    rows = [counts.get(f"bleu_{n}", 0.0) for n in ORDERS]
    if not any(right) or not all(rows):
        return {"bleu": 0.0}
    total, smooth = 0.0, 1.0
    for hits, of_n in zip(right, rows, strict=True):
        if not hits:
            smooth *= 2
            hits = 1 / smooth
        total += math.log(hits / of_n)
    length, gold_length = counts["bleu_words"], counts["bleu_gold_words"]
    brevity = min(0.0, 1 - gold_length / length)
    return {"bleu": math.exp(brevity + total / len(ORDERS))}


def _rows(sequence: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each row of n words occurs."""
    return Counter(tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))

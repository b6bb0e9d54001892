"""Sentence order prediction (Lan et al. 2019, ALBERT, arXiv:1909.11942, section 3.1).

A pair is two successive parts of one document, swapped half the time. Class 0: A comes before B in
the document; class 1: A comes after B.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from research.data import plan
from research.objectives.sentence_pairs import SentencePairs, next_size, shortened


class SentenceOrder(SentencePairs):
    """A and B are neighbours, in order or swapped."""

    name = "sentence_order"
    meaning = "whether A and B have changed places (ALBERT); full attention"
    measures = ("sentence_order_loss", "sentence_order_accuracy")
    label = "swapped"
    classes = ("B is what follows A", "A is what follows B")

    def plan(self, text, rows, rng):
        specials = self.specials(text.tokenizer)[1]
        return plan_ordered_pairs(self.sentences(text), rows, rng, self.options.short, specials)


def plan_ordered_pairs(
    sentences: Sequence[Sequence[int]],
    rows: plan.Rows,
    rng: np.random.Generator,
    short: float = 0.1,
    specials: int = 3,
) -> np.ndarray:
    """Pairs of neighbours for sentence order prediction (Lan et al. 2019, section 3.1).

    A and B are one or more successive sentences each, swapped half the time. A pair fills the rest
    of the row or, with probability `short`, a random part of it; a last sentence that would be left
    over joins the pair before it. A document of one sentence is cut in two; a document of a single
    token is left out, since it has no order.

    Args and returns: as in `next_sentence.plan_pairs`; `specials` is of a segment of two texts.
    """
    for doc in rng.permutation(len(sentences)):
        doc = int(doc)
        offsets = sentences[doc]
        if offsets[-1] < 2:
            continue
        if len(offsets) == 2:
            offsets = [0, int(rng.integers(1, offsets[-1])), offsets[-1]]
        last = len(offsets) - 1
        i = 0
        while i < last:
            target = next_size(rows, specials, short, rng)
            j = min(last, max(i + 2, bisect_left(offsets, offsets[i] + target)))
            j = last if last - j == 1 else j
            middle = int(rng.integers(i + 1, j))
            a, b = (offsets[i], offsets[middle]), (offsets[middle], offsets[j])
            i = j
            a, b = shortened(a, b, target, rng)
            swapped = bool(rng.random() < 0.5)
            a, b = (b, a) if swapped else (a, b)
            tokens = a[1] - a[0] + b[1] - b[0] + specials
            rows.add(tokens, (doc, *a, doc, *b, int(swapped)))
    return rows.array()

"""Next sentence prediction (Devlin et al. 2018). Class 0: B follows A; 1: B is random."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from research.data import plan
from research.errors import UserError
from research.objectives.sentence_pairs import SentencePairs, next_size, shortened

DRAWS = 4  # at most, for one random B


class NextSentence(SentencePairs):
    """B follows A, or comes from another document of A's source."""

    name = "next_sentence"
    meaning = "whether B is the sentence after A (BERT); full attention"
    measures = ("next_sentence_loss", "next_sentence_accuracy")
    label = "random_next"
    classes = ("B is what follows A", "B is random")

    def check_split(self, counts):
        if not counts["paired_documents"]:
            raise UserError(
                "next sentence prediction needs a source with two documents of two sentences or "
                "more in one block of a split: a random next sentence is from another document "
                "of the same source. Give config.data.corpus as several documents, hold out more "
                "of them (config.data.held_out_percent), or leave the objective out: "
                "--config.objective.next_sentence=None"
            )

    def plan(self, text, rows, rng):
        sentences, sources = self.sentences(text), text.block.sources
        specials = self.specials(text.tokenizer)
        return plan_pairs(sentences, sources, rows, rng, self.options.short, specials)


class _Others:
    """The documents of one source that make pairs, from which a random B is drawn."""

    def __init__(self, sentences: Sequence[Sequence[int]], documents: Sequence[int]):
        self._sentences, self._documents = sentences, list(documents)
        self._ends = np.cumsum([sentences[d][-1] for d in documents])
        self._place = {d: n for n, d in enumerate(documents)}

    def draw(
        self, doc: int, wanted: int, full: bool, rng: np.random.Generator
    ) -> tuple[int, int, int]:
        """Draws whole sentences of another document. Returns (document, first token, end).

        A document's probability is proportional to its tokens, as in true pairs. B begins at any
        sentence but the first, which follows none. If the pair fills its room (`full`), returns the
        first of DRAWS draws with `wanted` tokens or more, as a document may end too soon; else the
        draw whose length is closest to `wanted`.
        """
        own = self._place[doc]
        end = int(self._ends[own])
        size = self._sentences[doc][-1]
        drawn = []
        for _ in range(DRAWS):
            token = int(rng.integers(int(self._ends[-1]) - size))
            token += size * (token >= end - size)
            other = self._documents[int(np.searchsorted(self._ends, token, side="right"))]
            offsets = self._sentences[other]
            at = int(rng.integers(1, len(offsets) - 1))
            last = min(len(offsets) - 1, bisect_left(offsets, offsets[at] + wanted, at + 1))
            if not full and last > at + 1:
                over = offsets[last] - offsets[at] - wanted
                last -= over > wanted - (offsets[last - 1] - offsets[at])
            drawn.append((other, offsets[at], offsets[last]))
            if full and drawn[-1][2] - drawn[-1][1] >= wanted:
                return drawn[-1]
        return min(drawn, key=lambda b: abs(b[2] - b[1] - wanted))


def plan_pairs(
    sentences: Sequence[Sequence[int]],
    sources: Sequence[int],
    rows: plan.Rows,
    rng: np.random.Generator,
    short: float = 0.1,
    specials: tuple[int, int] = (2, 3),
) -> np.ndarray:
    """Sentence pairs for next sentence prediction (Devlin et al. 2018, appendix A.2).

    A is one or more sentences. B is the text that follows or, in half of the pairs, about as much
    of another document. A pair fills the rest of the row or, with probability `short`, a random
    part of it.

    Only the text tells the two classes apart: a random B comes from another document of the same
    source in the block and is as long as the true one would be (see `_Others.draw`); of every two
    successive pairs of a source one is random.
    Text that could make pairs of one class only becomes slices, as in `plan.plan_slices`: documents
    of one sentence, a source's only document in the block, and a left-over last sentence.

    Args:
        sentences: token offsets of each document's sentences, the end last.
        sources: the source number of each document.
        specials: special tokens of a segment of one text, and of one of two texts.

    Returns: segments [N] of dtype plan.SEGMENT; the label of a slice is plan.NO_PAIR.
    """
    single, double = specials
    pairs = plan.paired([len(offsets) - 1 for offsets in sentences], sources)
    others = {
        source: _Others(sentences, [d for d in np.flatnonzero(pairs) if sources[d] == source])
        for source in set(np.asarray(sources)[pairs].tolist())
    }
    owed: dict[int, bool] = {}  # source -> class of the second of two pairs
    for doc in rng.permutation(len(sentences)):
        doc, source, offsets = int(doc), int(sources[doc]), sentences[doc]
        last = len(offsets) - 1
        i = 0
        while i < last:
            if last - i < 2 or not pairs[doc]:
                plan.slices(rows, doc, offsets[i], offsets[-1], single, plan.NO_PAIR)
                break
            target = next_size(rows, double, short, rng)
            j = min(last, max(i + 2, bisect_left(offsets, offsets[i] + target)))
            middle = int(rng.integers(i + 1, j))
            random_next = owed.pop(source, None)
            if random_next is None:
                random_next = bool(rng.random() < 0.5)
                owed[source] = not random_next
            a, b, other = (offsets[i], offsets[middle]), (offsets[middle], offsets[j]), doc
            start, i = i, j
            if random_next:
                full = b[1] - offsets[start] >= target
                wanted = target - (a[1] - a[0]) if full else b[1] - b[0]
                other, *b = others[source].draw(doc, wanted, full, rng)
                i = middle
            a, b = shortened(a, b, target, rng)
            tokens = a[1] - a[0] + b[1] - b[0] + double
            rows.add(tokens, (doc, *a, other, *b, int(random_next)))
    return rows.array()

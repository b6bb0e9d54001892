"""Rules that guess whether B follows A in a pair of sentences without reading either: what a next
sentence accuracy has to be shown beside. What such a rule gets right is how the pairs were drawn.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from research.objectives.batches import PretrainingBatches

FITTED = 20_000  # training pairs that a rule is fitted to, at most


class Pair(NamedTuple):
    """A pair: the names of the sources that its parts come from, their token ids, and 1 where B is
    random, 0 where it follows A."""

    source_a: str
    source_b: str
    a: Int[np.ndarray, " N"]
    b: Int[np.ndarray, " M"]
    label: int


def pair_rules(
    train: Sequence[Pair], test: Sequence[Pair], vocab_size: int
) -> dict[str, Int[np.ndarray, " P"]]:
    """What each rule, fitted to training pairs, says of each test pair.

    The rules: a B of one source is random, that source by which most training pairs are told; of
    each two sources of A and B the label that is more frequent in training; logistic regressions on
    the two lengths in tokens, and on which tokens stand in A and which in B.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = train[:: -(-len(train) // FITTED)]
    labels = [pair.label for pair in train]
    lengths = make_pipeline(StandardScaler(), LogisticRegression()).fit(_lengths(train), labels)
    # So that it does not learn the training pairs by heart: with 1 it is worse on others.
    words = LogisticRegression(solver="liblinear", C=0.01).fit(_bags(train, vocab_size), labels)
    return {
        "source of B": _one_source(train, test),
        "both sources": _two_sources(train, test),
        "lengths": lengths.predict(_lengths(test)),
        "bag of words": words.predict(_bags(test, vocab_size)),
    }


def pairs(batches: PretrainingBatches, names: Sequence[str]) -> Iterator[tuple[int, Pair]]:
    """The block and the content of each pair of the first epoch.

    names: of the corpus's sources.
    """
    for number in range(batches.store.blocks):
        block = batches.block(number)
        for segment in batches.block_plan(0, number):
            if segment["doc_b"] >= 0:
                a = block.slice(*(int(segment[key]) for key in ("doc", "start", "end")))[0]
                b = block.slice(*(int(segment[key]) for key in ("doc_b", "start_b", "end_b")))[0]
                where = (names[block.sources[segment[key]]] for key in ("doc", "doc_b"))
                yield number, Pair(*where, a, b, int(segment["label"]))


def _one_source(train: Sequence[Pair], test: Sequence[Pair]) -> Int[np.ndarray, " P"]:
    sources, labels = (np.array([getattr(p, key) for p in train]) for key in ("source_b", "label"))
    told = max(np.unique(sources), key=lambda source: np.mean((sources == source) == labels))
    return np.array([int(pair.source_b == told) for pair in test])


def _two_sources(train: Sequence[Pair], test: Sequence[Pair]) -> Int[np.ndarray, " P"]:
    seen: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for pair in train:
        seen[pair.source_a, pair.source_b][pair.label] += 1
    usual = {sources: counts.most_common(1)[0][0] for sources, counts in seen.items()}
    return np.array([usual.get((pair.source_a, pair.source_b), 1) for pair in test])


def _lengths(pairs: Sequence[Pair]) -> Int[np.ndarray, "P 2"]:
    return np.array([(len(pair.a), len(pair.b)) for pair in pairs])


def _bags(pairs: Sequence[Pair], vocab_size: int) -> Any:
    """Which tokens stand in A, and which in B: a sparse array [pairs, 2 vocab_size]."""
    from scipy.sparse import csr_array

    bags = [np.unique(np.concatenate([pair.a, pair.b + np.int64(vocab_size)])) for pair in pairs]
    ends = np.cumsum([0, *map(len, bags)], dtype=np.int32)
    columns = np.concatenate(bags).astype(np.int32)  # scikit-learn takes no others
    values = np.ones(len(columns), np.float32)
    return csr_array((values, columns, ends), shape=(len(bags), 2 * vocab_size))

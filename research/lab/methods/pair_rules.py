"""Rules that guess whether B follows A in a pair of sentences without reading either: baselines for
a next sentence accuracy. Their accuracy comes only from the way the pairs were drawn.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from research.objectives.batches import PretrainingBatches

FITTED = 20_000  # at most this many training pairs fit a rule


class Pair(NamedTuple):
    """A pair: the sources of its two parts by name, their token ids, and its label: 1 if B is
    random, 0 if it follows A."""

    source_a: str
    source_b: str
    a: Int[np.ndarray, " N"]
    b: Int[np.ndarray, " M"]
    label: int


def pair_rules(
    train: Sequence[Pair], test: Sequence[Pair], vocab_size: int
) -> dict[str, Int[np.ndarray, " P"]]:
    """Returns the label that each rule, fitted to training pairs, predicts for each test pair.

    The rules: B is random if it comes from one source, the one that classifies most training pairs
    correctly; the label that is most frequent in training for the two sources of A and B; logistic
    regressions on the two lengths in tokens, and on the sets of tokens in A and in B.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = train[:: -(-len(train) // FITTED)]
    labels = [pair.label for pair in train]
    lengths = make_pipeline(StandardScaler(), LogisticRegression()).fit(_lengths(train), labels)
    # A small C prevents overfitting: with 1 it is worse on other pairs.
    words = LogisticRegression(solver="liblinear", C=0.01).fit(_bags(train, vocab_size), labels)
    return {
        "source of B": _one_source(train, test),
        "both sources": _two_sources(train, test),
        "lengths": lengths.predict(_lengths(test)),
        "bag of words": words.predict(_bags(test, vocab_size)),
    }


def pairs(batches: PretrainingBatches, names: Sequence[str]) -> Iterator[tuple[int, Pair]]:
    """Yields the block number and the content of each pair of the first epoch.

    names: names of the corpus's sources.
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
    best = max(np.unique(sources), key=lambda source: np.mean((sources == source) == labels))
    return np.array([int(pair.source_b == best) for pair in test])


def _two_sources(train: Sequence[Pair], test: Sequence[Pair]) -> Int[np.ndarray, " P"]:
    seen: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for pair in train:
        seen[pair.source_a, pair.source_b][pair.label] += 1
    usual = {sources: counts.most_common(1)[0][0] for sources, counts in seen.items()}
    return np.array([usual.get((pair.source_a, pair.source_b), 1) for pair in test])


def _lengths(pairs: Sequence[Pair]) -> Int[np.ndarray, "P 2"]:
    return np.array([(len(pair.a), len(pair.b)) for pair in pairs])


def _bags(pairs: Sequence[Pair], vocab_size: int) -> Any:
    """Returns the sets of tokens in A and in B, as a sparse array [pairs, 2 vocab_size]."""
    from scipy.sparse import csr_array

    bags = [np.unique(np.concatenate([pair.a, pair.b + np.int64(vocab_size)])) for pair in pairs]
    ends = np.cumsum([0, *map(len, bags)], dtype=np.int32)
    columns = np.concatenate(bags).astype(np.int32)  # scikit-learn requires int32
    values = np.ones(len(columns), np.float32)
    return csr_array((values, columns, ends), shape=(len(bags), 2 * vocab_size))

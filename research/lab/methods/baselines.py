"""Simple methods without a neural network, as baselines for every model.

Each takes training and test data and returns its predictions with the counts of every test example
(see `research.metrics.counts`), so that they can be paired with a model's. All are
deterministic and take seconds on the bundled data.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.metrics import answers, classification, entities
from research.metrics.counts import Counts

Example = Mapping[str, Any]
Rows = Sequence[np.ndarray]
# For every token of a row except the first [length - 1]: its bigram probability, its unigram
# probability, and the bucket of the token before it (by the count of that token).
PairModel = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]

TUNING_EVERY = 20  # every 20th training sequence is held out to fit the bigram's weights
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
WORD = re.compile(r"\w+")


class Result(NamedTuple):
    """A baseline's predictions for the test examples, and the counts of each example."""

    predictions: list[Any]
    counts: list[Counts]


# Classification


def linear(train: Sequence[Example], test: Sequence[Example]) -> Result:
    """Classifies texts or pairs of texts by multinomial naive Bayes over n-grams.

    The features are TF-IDF of words and word pairs and of 2 to 5 characters within words; the prior
    is uniform, so that it predicts rare labels too. On the validation part of the bundled sentiment
    data its macro-recall is 0.601.
    """
    from sklearn.naive_bayes import MultinomialNB

    return _classified(MultinomialNB(alpha=0.1, fit_prior=False), train, test)


def linear_svm(train: Sequence[Example], test: Sequence[Example]) -> Result:
    """Like `linear`, by a linear support vector machine with balanced classes: 0.582."""
    from sklearn.svm import LinearSVC

    return _classified(LinearSVC(C=0.1, class_weight="balanced"), train, test)


def _classified(classifier: Any, train: Sequence[Example], test: Sequence[Example]) -> Result:
    # Imported here: importing scikit-learn takes a second, and other baselines do not need it.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union

    # An n-gram seen once is indistinguishable from noise, except if the whole set is tiny.
    least = 2 if len(train) >= 100 else 1
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=least),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=least),
    )
    model = make_pipeline(features, classifier)
    model.fit([_text(example) for example in train], [example["label"] for example in train])
    labels = [str(label) for label in model.predict([_text(example) for example in test])]
    golds = [example["label"] for example in test]
    return Result(labels, list(map(classification.count, golds, labels)))


def _text(example: Example) -> str:
    return example["text"] if "text" in example else f"{example['text_a']} {example['text_b']}"


# Entities


def frequent_tag(train: Sequence[Example], test: Sequence[Example]) -> Result:
    """Tags each word with the entity type that it has most often in training; O if it is unknown.

    Neighbours of one type form one entity: the first gets B-, the others I-. (Keeping the most
    frequent tag with its prefix is worse: F1 0.502 instead of 0.552 on bundled validation data.)
    """
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for example in train:
        for word, tag in zip(example["tokens"], example["tags"], strict=True):
            seen[word][tag.partition("-")[2]] += 1
    # Sorted, so that a tie goes to the same type whatever the order of the examples.
    usual = {word: max(sorted(kinds), key=kinds.__getitem__) for word, kinds in seen.items()}
    tags = [_tags([usual.get(word, "") for word in example["tokens"]]) for example in test]
    golds = [example["tags"] for example in test]
    return Result(tags, list(map(entities.count, golds, tags)))


def _tags(kinds: Sequence[str]) -> list[str]:
    before = ["", *kinds]
    return [
        f"{'I' if kind == last else 'B'}-{kind}" if kind else "O"
        for kind, last in zip(kinds, before, strict=False)
    ]


# Language: rows are sequences of token ids [length] as the model reads them, predicted from the
# second token on; the first one is a start token.


def bigram(train: Rows, test: Rows, test_bytes: Sequence[float], vocab_size: int) -> Result:
    """Causal LM by bigram frequencies interpolated with unigram frequencies.

    The weight of the bigram depends on how often the previous token was seen (in powers of two) and
    is fitted by expectation maximisation on training rows held out for it (Jelinek and Mercer
    1980).

    `test_bytes` gives the bytes of text behind the predicted tokens of each test row.
    Predictions are the losses in nats of every predicted token [length - 1].
    """
    tuning = [row for i, row in enumerate(train) if i % TUNING_EVERY == TUNING_EVERY - 1]
    rest = [row for i, row in enumerate(train) if i % TUNING_EVERY != TUNING_EVERY - 1]
    if not tuning:
        raise ValueError(f"a bigram needs {TUNING_EVERY} training rows or more, not {len(train)}")
    weights = _fit_weights(_pair_model(rest, vocab_size), tuning)

    model = _pair_model(train, vocab_size)
    losses = []
    for row in test:
        pair, single, bucket = model(row)
        losses.append(-np.log(weights[bucket] * pair + (1 - weights[bucket]) * single))
    counts = [
        {"loss": float(nats.sum()), "tokens": float(len(nats)), "bytes": float(size)}
        for nats, size in zip(losses, test_bytes, strict=True)
    ]
    return Result(losses, counts)


def frequent_token(train: Rows, test: Rows, vocab_size: int) -> Result:
    """Masked LM by unigram frequencies: it guesses the most frequent token for every mask.

    Counts cover all predicted tokens of a row, which equals random masks on average.
    Predictions are the losses in nats [length - 1].
    """
    frequency = _frequencies(train, vocab_size)
    commonest, loss = int(frequency.argmax()), -np.log(frequency)
    losses = [loss[row[1:]] for row in test]
    counts = [
        {
            "loss": float(nats.sum()),
            "correct": float(np.count_nonzero(row[1:] == commonest)),
            "count": float(len(nats)),
        }
        for row, nats in zip(test, losses, strict=True)
    ]
    return Result(losses, counts)


def _frequencies(rows: Rows, vocab_size: int) -> np.ndarray:
    """Returns the relative frequency of each token, with add-one smoothing [vocab_size]."""
    counts = np.bincount(np.concatenate([row[1:] for row in rows]), minlength=vocab_size) + 1.0
    return counts / counts.sum()


def _pair_model(rows: Rows, vocab_size: int) -> PairModel:
    """Builds a `PairModel` from the pairs of tokens in the rows."""
    before = np.concatenate([row[:-1] for row in rows]).astype(np.int64)
    after = np.concatenate([row[1:] for row in rows]).astype(np.int64)
    pairs, pair_counts = np.unique(before * vocab_size + after, return_counts=True)
    context = np.bincount(before, minlength=vocab_size)
    frequency = _frequencies(rows, vocab_size)

    def look_up(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, second = row[:-1].astype(np.int64), row[1:].astype(np.int64)
        code = first * vocab_size + second
        place = np.minimum(np.searchsorted(pairs, code), len(pairs) - 1)
        seen = np.where(pairs[place] == code, pair_counts[place], 0)
        # frexp's exponent is the number of binary digits: 0 for 0, 1 for 1, 2 for 2 and 3, ...
        bucket = np.frexp(context[first])[1]
        return seen / np.maximum(context[first], 1), frequency[second], bucket

    return look_up


def _fit_weights(model: PairModel, rows: Rows) -> np.ndarray:
    """Fits the weight of the bigram in each bucket [64]; 0 for bucket 0, tokens never seen."""
    pair, single, bucket = (np.concatenate(part) for part in zip(*map(model, rows), strict=True))
    tokens = np.bincount(bucket, minlength=64)
    weights = np.full(64, 0.5)
    for _ in range(50):
        mixed = weights[bucket] * pair
        mixed = mixed / (mixed + (1 - weights[bucket]) * single)
        # One extra token for each side keeps a weight below 1, which would rule out unseen pairs.
        weights = (np.bincount(bucket, weights=mixed, minlength=64) + 1) / (tokens + 2)
    weights[0] = 0.0
    return weights


# Question answering, extracted or generated


def overlapping_sentence(train: Sequence[Example], test: Sequence[Example]) -> Result:
    """Answers with the sentence of the context that shares the most words with the question.

    Shared words are weighted by their inverse document frequency over the sentences of the training
    contexts. For a sentence "name: text" the answer is the text.
    """
    contexts = sorted({example["context"] for example in train})
    sentences = [s for context in contexts for s in SENTENCE_END.split(context)]
    frequency = Counter(word for sentence in sentences for word in _words(sentence))

    def rarity(shared: set[str]) -> float:
        # Sorted, so that the float sum is the same in every process: the order of sets is not.
        ordered = sorted(shared)
        return sum(math.log((1 + len(sentences)) / (1 + frequency[word])) for word in ordered)

    def answer(example: Example) -> str:
        asked = _words(example["question"]) - _words(example["title"])
        own = SENTENCE_END.split(example["context"])
        sentence = max(own, key=lambda s: rarity(asked & _words(s)))
        _, colon, text = sentence.partition(": ")
        return (text if colon else sentence).rstrip(".!?")

    predictions = [answer(example) for example in test]
    golds = [example["answers"]["text"] for example in test]
    return Result(predictions, list(map(answers.count, golds, predictions)))


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))

"""Simulates the coverage of reports' intervals and the false readings of their tables.

    python -m benchmarks.coverage

Coverage: how often the 95 % interval over test examples contains the true difference of two
systems. The test set has 6 to 200 documents with lognormal numbers of examples. With --tail=0.8
these vary as much as those of the bundled data (standard deviation over mean 0.95; entities of the
tagged test documents 0.98, words of the tales 0.58); 1.0 has a heavier tail.

False readings: how many tables call a line better or worse although no difference exists. A table
has six rows beside a baseline, each of 5 seeds, all measured on the same 44 documents.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import numpy as np

from research import cli
from research.draws import generator
from research.lab.reports import statistics
from research.lab.reports.statistics import Difference
from research.metrics import answers, classification, entities, language
from research.metrics.counts import MetricsFn
from research.metrics.jackknife import Gap, spread
from research.values import Range
from research.verbs import Flag, Verb

VERB = Verb(
    "benchmarks.coverage:run",
    "simulate the coverage of intervals and the false readings of tables",
    optional={
        "tail": Flag(
            "standard deviation of the logarithm of the documents' sizes (0.8)",
            Annotated[float, Range(0, 2)],
        )
    },
)
DOCUMENTS, TAIL, REPEATS, TABLES = (6, 21, 44, 200), 0.8, 10_000, 1000
LINES, SEEDS, TESTED, POPULATION = 6, 5, 44, 200_000
CLASSES = ("negative", "neutral", "positive")

Counts = dict[str, np.ndarray]  # of a system: count -> [repeats, documents]


class Metric(NamedTuple):
    """counts: draws the counts of documents from their examples of each class [..., 3] and the
    skill of a system in each [...]. formula: summed counts -> the metric `name` of `compute`."""

    counts: Callable[[np.random.Generator, np.ndarray, np.ndarray], Counts]
    formula: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    compute: MetricsFn
    name: str


def _accuracy(draw: np.random.Generator, classes: np.ndarray, skill: np.ndarray) -> Counts:
    size = classes.sum(-1)
    right = draw.binomial(size, _sigmoid(0.8 + skill))
    return {"questions": size, "exact_match": right, "f1": right}


def _f1(draw: np.random.Generator, classes: np.ndarray, skill: np.ndarray) -> Counts:
    size = classes.sum(-1)
    right = draw.binomial(size, _sigmoid(0.6 + skill))
    wrong = draw.poisson(size * np.exp(-1.2 - 0.4 * skill))
    return {"gold/PER": size, "predicted/PER": right + wrong, "correct/PER": right}


def _recall(draw: np.random.Generator, classes: np.ndarray, skill: np.ndarray) -> Counts:
    counts = {}
    for number, (gold, ease) in enumerate(zip(CLASSES, (0.8, -0.5, 0.8), strict=True)):
        right = draw.binomial(classes[..., number], _sigmoid(ease + skill))
        (hit,) = classification.count(gold, gold)
        (miss,) = classification.count(gold, CLASSES[number - 1])
        counts |= {hit: right, miss: classes[..., number] - right}
    return counts


def _macro_recall(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    hits, misses = list(sums.values())[::2], list(sums.values())[1::2]
    gold = np.array([h + m for h, m in zip(hits, misses, strict=True)])
    recall = np.array(hits) / np.maximum(gold, 1)
    return recall.sum(0) / (gold > 0).sum(0)


def _loss(draw: np.random.Generator, classes: np.ndarray, skill: np.ndarray) -> Counts:
    tokens = 20.0 * classes.sum(-1)
    noise = 2 * np.sqrt(tokens) * draw.standard_normal(tokens.shape)
    return {"tokens": tokens, "loss": tokens * (4 - 0.3 * skill) + noise}


METRICS = {
    "accuracy": Metric(
        _accuracy, lambda s: s["exact_match"] / s["questions"], answers.compute, "exact_match"
    ),
    "F1": Metric(
        _f1,
        lambda s: 2 * s["correct/PER"] / np.maximum(s["gold/PER"] + s["predicted/PER"], 1),
        entities.compute,
        "f1",
    ),
    "macro-recall": Metric(_recall, _macro_recall, classification.compute, "macro_recall"),
    "perplexity": Metric(
        _loss,
        lambda s: np.exp(s["loss"] / s["tokens"]),
        lambda s: language.of_tokens(s["loss"], s["tokens"]),
        "perplexity",
    ),
}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def documents(draw: np.random.Generator, shape: tuple[int, ...], tail: float) -> np.ndarray:
    """Draws documents: about 40 examples each, by class [*shape, 3]; the middle one is rare."""
    size = np.maximum(1, np.rint(40 * np.exp(tail * draw.standard_normal(shape)))).astype(int)
    return draw.multinomial(size, draw.dirichlet((3, 0.8, 3), shape))


def systems(
    metric: Metric, draw: np.random.Generator, shape: tuple[int, ...], tail: float
) -> tuple[Counts, Counts]:
    """Draws the counts of two systems on the same documents; the first is better."""
    classes, hard = documents(draw, shape, tail), draw.normal(0, 0.5, shape)
    skills = (draw.normal(more, 0.3, shape) - hard for more in (0.15, 0.0))
    ours, theirs = (metric.counts(draw, classes, skill) for skill in skills)
    return ours, theirs


def gap(metric: Metric, ours: Counts, theirs: Counts) -> Gap:
    """The gaps of all repeats at once, each as `paired_jackknife` computes it."""
    whole, without = (
        [metric.formula({name: rest(n) for name, n in counts.items()}) for counts in (ours, theirs)]
        for rest in (lambda n: n.sum(-1), lambda n: n.sum(-1, keepdims=True) - n)
    )
    return Gap(whole[0] - whole[1], *spread(without[0] - without[1]))


def coverage(name: str, number: int, repeats: int = REPEATS, tail: float = TAIL) -> float:
    """The share of repeats whose interval over `number` documents contains the true difference."""
    metric, draw = METRICS[name], generator("coverage", name, number)
    truth = gap(metric, *systems(metric, draw, (1, POPULATION), tail)).difference
    low, high = gap(metric, *systems(metric, draw, (repeats, number), tail)).interval
    return float(np.mean((low <= truth) & (truth <= high)))


def percentile(name: str, number: int, repeats: int, tail: float = TAIL) -> float:
    """`coverage` of the 2.5th and 97.5th percentiles of 400 bootstrap resamples, for comparison."""
    metric, draw = METRICS[name], generator("coverage", name, number)
    truth = gap(metric, *systems(metric, draw, (1, POPULATION), tail)).difference
    both = systems(metric, draw, (repeats, number), tail)
    resampled = []
    for _ in range(400):
        times = draw.multinomial(number, np.full(number, 1 / number), repeats)
        ours, theirs = (
            metric.formula({name: (times * n).sum(-1) for name, n in counts.items()})
            for counts in both
        )
        resampled.append(ours - theirs)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return float(np.mean((low <= truth) & (truth <= high)))


class Variation(NamedTuple):
    """How much equally good systems differ, as standard deviations in logits: by seed over all
    documents, by document over all seeds, and by seed and document (`rest`)."""

    seeds: float
    documents: float
    rest: float = 0.1


# In "both", the two contribute about equally to the error.
VARIATIONS = {
    "seeds": Variation(0.2, 0.02),
    "documents": Variation(0.02, 0.4),
    "both": Variation(0.15, 0.25),
    "neither": Variation(0.0, 0.0),
}


class Readings(NamedTuple):
    """Shares of false readings: tables and lines with "better" or "worse", lines with "perhaps",
    and tables with "better" or "worse" if they were read over seeds alone."""

    tables: float
    lines: float
    perhaps: float
    seeds_alone: float


def readings(
    variation: Variation, tables: int = TABLES, seeds: int = SEEDS, tail: float = TAIL
) -> Readings:
    """Reads simulated tables without any true difference; returns the shares of false readings."""
    draw, metric = generator("readings", seeds, *variation), METRICS["accuracy"]
    rows = (tables, LINES + 1)
    classes = documents(draw, (tables, 1, 1, TESTED), tail)
    skill = (
        draw.normal(0, 0.5, (tables, 1, 1, TESTED))
        + draw.normal(0, variation.seeds, (*rows, seeds, 1))
        + draw.normal(0, variation.documents, (*rows, 1, TESTED))
        + draw.normal(0, variation.rest, (*rows, seeds, TESTED))
    )
    counts = metric.counts(draw, np.broadcast_to(classes, (*skill.shape, 3)), skill)
    values = metric.formula({name: n.sum(-1) for name, n in counts.items()})
    without = metric.formula({k: n.sum(-1, keepdims=True) - n for k, n in counts.items()}).mean(2)
    error, freedom = spread(without[:, 1:] - without[:, :1])
    read, alone = [], []
    for i in range(tables):
        pairs = [(values[i, k + 1], values[i, 0], error[i, k], freedom[i, k]) for k in range(LINES)]
        lines = [
            statistics.difference(ours, theirs, Gap(ours.mean() - theirs.mean(), e, f))
            for ours, theirs, e, f in pairs
        ]
        read.append(_read(lines))
        alone.append(_read([Difference(d.value, d.seeds, d.over_seeds) for d in lines]))
    sure, either = (np.array([[r in words for r in t] for t in read]) for words in (SURE, PERHAPS))
    false = np.mean([any(r in SURE for r in table) for table in alone])
    return Readings(*map(float, (sure.any(1).mean(), sure.mean(), either.mean(), false)))


SURE, PERHAPS = ("better", "worse"), ("perhaps better", "perhaps worse")


def _read(lines: list[Difference]) -> list[str]:
    ps = statistics.corrected(lines)
    return [statistics.reading(d, False, p) for d, p in zip(lines, ps, strict=True)]


def run(tail: float = TAIL) -> int:
    """Simulates and prints the shares."""
    print("| documents | metric | percentile bootstrap | jackknife |\n| --- | --- | --- | --- |")
    for number in DOCUMENTS:
        for name in METRICS:
            old = percentile(name, number, REPEATS // 5, tail)
            new = coverage(name, number, tail=tail)
            print(f"| {number} | {name} | {old:.3f} | {new:.3f} |", flush=True)
    print("\n| varies | seeds | tables | lines | perhaps, lines | tables, over seeds alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, variation in VARIATIONS.items():
        for seeds in (SEEDS, 3):
            shares = readings(variation, seeds=seeds, tail=tail)
            print(f"| {name} | {seeds} | {' | '.join(f'{s:.3f}' for s in shares)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.coverage", VERB))

"""Reference levels for curves: chance, and simple methods."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from research.checkpoints.reading import read_info
from research.config import Config
from research.data import store
from research.data.block import Block
from research.data.tokenizer import Tokenizer
from research.lab.methods import baselines, pair_rules
from research.lab.record import VALIDATION, Record
from research.lab.reports import curves, provenance
from research.lab.reports.results import Results
from research.metrics import language
from research.metrics.counts import Counts, total
from research.monitoring.writers import METRICS
from research.objectives import make_objectives
from research.objectives.batches import PretrainingBatches
from research.objectives.masked_lm import MaskedLM
from research.objectives.objective import by_pattern
from research.run import corpus
from research.tasks.multi_label import MultiLabel
from research.tasks.sequence_classification import SequenceClassification

CHANCE = "chance"
COIN, PAIRS = "coin", ("next_sentence_accuracy", "sentence_order_accuracy")
ALL = ""  # all sources of a corpus together
Reached = Mapping[str, tuple[str, float]]  # metric -> a simple method and its value


def drawn(
    records: Sequence[Record],
    results: Results | None = None,
    simple: Mapping[str, Reached] | None = None,
) -> dict[str, Any]:
    """Returns the curves of trained runs, as `curves.of_runs` does, with their levels.

    results: the results of their table; simple: folder name -> result of `language_baselines` for
    the whole corpus, for some of the runs.
    """
    records = [record for record in records if (record.folder / METRICS).exists()]
    stages = _stages(records, results)
    levels = {stages[record.name]: chance(record.values) for record in records}

    def add(run: str, metric: str, method: str, value: float) -> None:
        lines = levels[stages[run]].setdefault(f"{VALIDATION}{metric}", {})
        # The method reaches other values for runs with other tokenizers or settings.
        lines[method if lines.get(method, value) == value else f"{method}, {run}"] = value

    for record in records:
        for metric, (method, value) in (simple or {}).get(record.folder.name, {}).items():
            if method != COIN:
                add(record.name, metric, method, value)
    for (_, column), cell in results.cells.items() if results else ():
        measure = results.measures[column]
        if measure.method and cell.run in stages:
            add(cell.run, measure.metric, measure.method.replace("_", " "), measure.on_validation)
    return curves.of_runs(records, stages, levels)


def _stages(records: Sequence[Record], results: Results | None) -> dict[str, str]:
    """Returns run -> its stage: the table's column if a task has only one, or else the kind."""
    kinds = {record.name: record.measured_on("validation") for record in records}
    names = provenance.kinds(list(kinds.values()))
    columns: dict[tuple[str, str], set[str]] = {}
    for (_, column), cell in results.cells.items() if results else ():
        if cell.run in kinds:
            columns.setdefault(kinds[cell.run], set()).add(column)
    names |= {kind: min(c) for kind, c in columns.items() if kind[0] and len(c) == 1}
    return {run: names[kind] for run, kind in kinds.items()}


def chance(values: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns the values that uniformly random guesses reach, for those metrics whose chance level
    follows from a run's config alone."""
    task = values.get("task") or {}
    labels, name = task.get("labels"), task.get("name")
    reached: dict[str, float] = {}
    if not task:
        reached = dict.fromkeys(PAIRS, 0.5)
    elif name == MultiLabel.name:
        reached = {"label_accuracy": 0.5}
    elif name == SequenceClassification.name and isinstance(labels, list | tuple):
        shares = ("accuracy", "label_accuracy", "macro_recall")
        reached = dict.fromkeys(shares, 1 / len(labels)) | {"loss": math.log(len(labels))}
    levels = {f"{VALIDATION}{metric}": {CHANCE: value} for metric, value in reached.items()}
    return levels | ({"loss": {CHANCE: reached["loss"]}} if "loss" in reached else {})


# Pre-training


def language_baselines(record: Record) -> dict[str, Reached]:
    """Measures simple methods on the held-out text: n-gram models over the same tokens, trained on
    the training split, the best rule that classifies pairs without reading, and a coin toss.

    Returns source name -> metrics of that source alone; ALL -> metrics of all sources.
    """
    tokenizer = Tokenizer.from_json(read_info(str(record.folder)).tokenizer_json)
    data, goal = record.config.data, record.config.objective
    stores = [
        store.build(data.corpus, s, data.held_out_percent, tokenizer, data.cache)
        for s in ("train", "validation")
    ]
    train, held_out = map(_documents, stores)
    names = [source.name for source in data.corpus]
    of = np.concatenate([np.zeros(0, int), *(b.sources for b in _blocks(stores[1]))])
    parts = {ALL: np.arange(len(of))}
    parts |= {name: np.flatnonzero(of == number) for number, name in enumerate(names)}
    by_part: dict[str, dict[str, tuple[str, float]]] = {
        part: dict.fromkeys(PAIRS, (COIN, 0.5)) for part, rows in parts.items() if len(rows)
    }

    def add(method: str, counts: Sequence[Counts], metrics: Callable[[Counts], Counts]) -> None:
        for part, reached in by_part.items():
            numbers = metrics(total(counts[row] for row in parts[part]))
            reached |= {metric: (method, value) for metric, value in numbers.items()}

    if goal.masked_lm:
        rows, test = _framed(train, 0), _framed(held_out, 0)
        counts = baselines.frequent_token(rows, test, tokenizer.vocab_size).counts
        add("most frequent token", counts, MaskedLM(goal.masked_lm).loss_metrics)
    if goal.causal_lm:
        rows, test = _framed(train, tokenizer.eos), _framed(held_out, tokenizer.eos)
        sizes = _bytes(stores[1], tokenizer)
        counts = baselines.bigram(rows, test, sizes, tokenizer.vocab_size).counts
        add("bigram", counts, lambda c: language.of_tokens(c["loss"], c["tokens"], c["bytes"]))
    if goal.next_sentence:
        for part, rule in _best_rules(record.config, tokenizer, stores).items():
            by_part[part][PAIRS[0]] = rule
    return by_part


def _best_rules(
    config: Config, tokenizer: Tokenizer, stores: Sequence[store.Store]
) -> dict[str, tuple[str, float]]:
    """Returns the most accurate rule without reading and its accuracy: under ALL for all held-out
    pairs, and for each source that has pairs."""
    data, goal = config.data, by_pattern(make_objectives(config.objective))["full"]
    names = [source.name for source in data.corpus]
    train, test = (
        [
            pair
            for _, pair in pair_rules.pairs(
                PretrainingBatches(part, tokenizer, goal, data.length, data.segments, 1, seed),
                names,
            )
        ]
        for part, seed in zip(stores, (config.seed, corpus.EVAL_SEED), strict=True)
    )
    if len({pair.label for pair in train}) < 2 or not test:
        return {}
    labels = np.array([pair.label for pair in test])
    right = {
        rule: labels == predicted
        for rule, predicted in pair_rules.pair_rules(train, test, tokenizer.vocab_size).items()
    }
    of = np.array([pair.source_a for pair in test])
    parts = {ALL: np.ones(len(test), bool)} | {name: of == name for name in names}
    best = {}
    for part, here in parts.items():
        if here.any():
            reached = {rule: float(hits[here].mean()) for rule, hits in right.items()}
            best[part] = max(reached.items(), key=lambda pair: pair[1])
    return best


def _blocks(split: store.Store) -> Iterator[Block]:
    return map(split.block, range(split.blocks))


def _documents(split: store.Store) -> list[np.ndarray]:
    return [
        np.asarray(block.slice(d, 0, int(length))[0]).astype(np.int64)
        for block in _blocks(split)
        for d, length in enumerate(block.lengths)
    ]


def _framed(documents: list[np.ndarray], end: int) -> list[np.ndarray]:
    """Puts the end-of-text token before and after each document, as a causal model reads them."""
    return [np.concatenate([[end], d, [end]]) for d in documents]


def _bytes(held_out: store.Store, tokenizer: Tokenizer) -> list[float]:
    """Returns the number of UTF-8 bytes of each document."""
    spelt = tokenizer.byte_lengths()
    sizes = []
    for index in range(held_out.blocks):
        block, lengths = held_out.block(index), held_out.byte_lengths(spelt, index)
        sizes += np.add.reduceat(lengths[block.tokens], block.documents[:-1]).tolist()
    return sizes

"""Audits training data: leaks of held-out texts, and sentence pairs that can be told without
reading.

    python -m benchmarks.audit
    python -m benchmarks.audit --config=mine.py --tasks=task.py,other.py --cache=.cache

For the validation and test split of each task, counts the 8-grams that also occur in the corpora of
a pre-training, before and after its exclusions. For next sentence prediction, counts the random
pairs of each block and the pairs that rules classify correctly without reading. The bundled data
takes 57 s of a busy core, and 168 s if it has no token store yet.
"""

import dataclasses
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from research import cli, config
from research.data import kinds, overlap, sources
from research.data.config import DataConfig
from research.data.overlap import Grams
from research.data.sources import SourceConfig
from research.errors import UserError
from research.lab.methods.pair_rules import Pair, pair_rules, pairs
from research.objectives.batches import PretrainingBatches
from research.run import corpus
from research.run.run import Run, build
from research.tasks import kind_of
from research.verbs import Verb

VERB = Verb(
    "benchmarks.audit:run",
    "find held-out texts in the corpora of a pre-training, and rules that tell its pairs apart",
    optional={
        "config": "config of the pre-training (configs/pretrain/bert_cpu.py)",
        "tasks": "configs of fine-tunings, separated by commas (one for each bundled data set)",
        "cache": "folder of token stores (.cache)",
    },
)
TASKS = ("sentiment", "named_entities", "question_answering", "story")  # each data set once
NAMED = 5  # excluded documents to name, per corpus


def run(
    config: str = "configs/pretrain/bert_cpu.py", tasks: str = "", cache: str = ".cache"
) -> int:
    """Prints the audit."""
    built = build(_loaded(config, {"data.cache": cache}), quiet=True)
    if built.task is not None:
        raise UserError(f"--config={config} is a fine-tuning; give the config of a pre-training")
    files = tasks.split(",") if tasks else [f"configs/finetune/{name}.py" for name in TASKS]
    for line in itertools.chain(_leaks(built.config.data, files), _pairs(built)):
        print(line, flush=True)
    return 0


def _loaded(file: str, overrides: dict[str, str]) -> config.Config:
    return config.load(file, overrides)


# Leaks


def _leaks(data: DataConfig, files: Sequence[str]) -> Iterator[str]:
    yield f"Held-out examples that share an {overlap.WORDS}-gram of words with a corpus"
    texts = {f"{name}, {split}": examples for name, split, examples in _held_out(files)}
    grams = Grams.of(text for each in texts.values() for example in each for text in example)
    located = {name: list(map(grams.places_of, held)) for name, held in texts.items()}
    before, after, lost = {}, {}, []
    for source in data.corpus:
        whole = dataclasses.replace(source, exclude=())
        ids: dict[str, None] = {}
        before[source.name] = grams.seen(_read(whole, data.held_out_percent, ids))
        left: dict[str, None] = {}
        after[source.name] = grams.seen(_read(source, data.held_out_percent, left))
        gone = [name for name in ids if name not in left]
        if gone:
            more = ", …" if len(gone) > NAMED else ""
            named = f"{', '.join(gone[:NAMED])}{more}"
            lost.append(f"  {source.name}: {len(gone):,} of {len(ids):,} documents: {named}")
    for name, examples in located.items():
        for when, each in (("as they are", before), ("without what is excluded", after)):
            everything = overlap.count(examples, np.any(list(each.values()), axis=0))
            yield f"  {name}, corpora {when}: {everything}"
            for corpus_name, seen in each.items():
                shared = overlap.count(examples, seen)
                if shared.touched:
                    yield f"    {corpus_name}: {shared.touched:,} examples"
            if not everything.touched:
                break
    yield "Excluded from training and validation text"
    yield from lost


def _held_out(files: Sequence[str]) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Yields task, split and the texts of each example."""
    for file in files:
        task = _loaded(file, {"init_from": "bert"})  # any start will do: only the data is read
        for split in ("validation", "test"):
            if split == "validation" or task.data.test not in (None, task.data.validation):
                examples = corpus.split(task.data, kind_of(task.task), split).examples
                name = file.rpartition("/")[2].partition(".")[0]
                yield name, split, [list(kinds.texts(example)) for example in examples]


def _read(source: SourceConfig, held_out_percent: float, ids: dict[str, None]) -> Iterator[str]:
    """Yields the training texts of a source; collects the ids of all its documents in `ids`."""
    for document in sources.read(source, "document"):
        ids[document["id"]] = None
        if not sources.held_out(document["id"], held_out_percent):
            yield document["text"]


# Pairs


def _pairs(built: Run) -> Iterator[str]:
    yield ""
    if built.config.objective.next_sentence is None:
        yield "No next sentence prediction, so no pairs"
        return
    names = [source.name for source in built.config.data.corpus]
    if not isinstance(built.train, PretrainingBatches):
        raise UserError("pairs need a single stream of rows: leave out config.data.weights")
    train, test = (list(pairs(batches, names)) for batches in (built.train, built.validation))
    yield f"Pairs of the first epoch: {len(train):,} to learn from, {len(test):,} held out"
    for block, labels in _by(train, [block for block, _ in train]).items():
        yield f"  block {block}: {_random(labels)}"
    yield f"  all: {_random(train)}; held out: {_random(test)}"
    yield "Held-out pairs that a rule gets right, without reading, by the source of A"
    right = [pair for _, pair in test]
    rules = pair_rules([pair for _, pair in train], right, built.tokenizer.vocab_size)
    golds = np.array([pair.label for pair in right])
    width = max(map(len, names))
    yield f"  {'':{width}}   pairs  random  of other  " + "  ".join(f"{n:>12}" for n in rules)
    for name in (*names, "all"):
        rows = np.array([name in (pair.source_a, "all") for pair in right])
        if not rows.any():
            continue
        drawn = [pair for pair, here in zip(right, rows, strict=True) if here and pair.label]
        other = np.mean([pair.source_a != pair.source_b for pair in drawn]) if drawn else 0.0
        cells = [f"{(guesses == golds)[rows].mean():12.3f}" for guesses in rules.values()]
        yield (
            f"  {name:{width}}  {rows.sum():6,}  {golds[rows].mean():6.3f}  {other:8.3f}  "
            + "  ".join(cells)
        )
    yield "  (of other: the share of random pairs whose B is from another source than A)"


def _by(values: Sequence, keys: Sequence) -> dict:
    groups = defaultdict(list)
    for key, value in zip(keys, values, strict=True):
        groups[key].append(value)
    return groups


def _random(numbered: Sequence[tuple[int, Pair]]) -> str:
    share = sum(pair.label for _, pair in numbered) / max(1, len(numbered))
    return f"{share:.3f} random of {len(numbered):,}"


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.audit", VERB))

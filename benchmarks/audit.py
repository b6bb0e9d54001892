"""What a hostile reader would look for in the data: leaks, and pairs that can be told without
reading.

    python -m benchmarks.audit
    python -m benchmarks.audit --config=mine.py --tasks=task.py,other.py --cache=.cache

Of each task's validation and test split the 8-grams that stand in the corpora of a pre-training, as
they lie there and without what its config excludes; of a next sentence prediction how many pairs
are random in each block, and how many are told right by rules that do not read. The bundled data
takes 57 s of a busy core, and 168 s where it has no token store yet.
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
    "held-out texts in the corpora of a pre-training, and rules that tell its pairs",
    optional={
        "config": "of the pre-training (configs/pretrain/bert_cpu.py)",
        "tasks": "configs of fine-tunings, with commas between them (of each bundled set one)",
        "cache": "folder of token stores (.cache)",
    },
)
TASKS = ("sentiment", "named_entities", "question_answering", "story")  # each set once
NAMED = 5  # documents that are left out, of a corpus


def run(
    config: str = "configs/pretrain/bert_cpu.py", tasks: str = "", cache: str = ".cache"
) -> int:
    """Prints the audit."""
    built = build(_loaded(config, {"data.cache": cache}), quiet=True)
    if built.task is not None:
        raise UserError(f"--config={config} is a fine-tuning; give that of a pre-training")
    files = tasks.split(",") if tasks else [f"configs/finetune/{name}.py" for name in TASKS]
    for line in itertools.chain(_leaks(built.config.data, files), _pairs(built)):
        print(line, flush=True)
    return 0


def _loaded(file: str, overrides: dict[str, str]) -> config.Config:
    return config.load(file, overrides)


# Leaks


def _leaks(data: DataConfig, files: Sequence[str]) -> Iterator[str]:
    yield f"Held-out examples that share an {overlap.WORDS}-gram of words with a corpus"
    texts = {f"{name}, {split}": found for name, split, found in _held_out(files)}
    grams = Grams.of(text for each in texts.values() for example in each for text in example)
    located = {name: list(map(grams.places_of, found)) for name, found in texts.items()}
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
                found = overlap.count(examples, seen)
                if found.touched:
                    yield f"    {corpus_name}: {found.touched:,} examples"
            if not everything.touched:
                break
    yield "Excluded from training and validation text"
    yield from lost


def _held_out(files: Sequence[str]) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Task, split and the texts of each of its examples."""
    for file in files:
        task = _loaded(file, {"init_from": "bert"})  # whichever: its data is all that is read
        for split in ("validation", "test"):
            if split == "validation" or task.data.test not in (None, task.data.validation):
                examples = corpus.split(task.data, kind_of(task.task), split).examples
                name = file.rpartition("/")[2].partition(".")[0]
                yield name, split, [list(kinds.texts(example)) for example in examples]


def _read(source: SourceConfig, held_out_percent: float, ids: dict[str, None]) -> Iterator[str]:
    """The training texts of a source; puts the ids of all of its documents into `ids`."""
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
        raise UserError("pairs are looked at in one stream of rows: leave out config.data.weights")
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
        cells = [f"{(said == golds)[rows].mean():12.3f}" for said in rules.values()]
        yield (
            f"  {name:{width}}  {rows.sum():6,}  {golds[rows].mean():6.3f}  {other:8.3f}  "
            + "  ".join(cells)
        )
    yield "  (of other: of the random ones, those whose B is of another source than A)"


def _by(values: Sequence, keys: Sequence) -> dict:
    found = defaultdict(list)
    for key, value in zip(keys, values, strict=True):
        found[key].append(value)
    return found


def _random(found: Sequence[tuple[int, Pair]]) -> str:
    share = sum(pair.label for _, pair in found) / max(1, len(found))
    return f"{share:.3f} random of {len(found):,}"


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.audit", VERB))

"""Task batches: every example once an epoch, packed into a few row counts."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from research.data import sources
from research.data.batch import Layout, Segment
from research.data.config import DataConfig, TokenizerConfig
from research.data.sources import SourceConfig
from research.draws import generator
from research.models.config import preset
from research.run import corpus
from research.tasks import make_task
from research.tasks.batches import TaskBatches
from research.tasks.sequence_classification import SequenceClassificationConfig

LAYOUT = Layout(length=32, segments=4, labels=("label",))


def examples(count: int, windows: bool = False) -> list[list[Segment]]:
    """Segments of 3 to 20 tokens; with `windows` one to three of them an example."""
    draw = generator("examples", count)
    made = []
    for i in range(count):
        parts = int(draw.integers(1, 4)) if windows else 1
        sizes = draw.integers(3, 21, parts)
        made.append(
            [
                Segment(np.full(n, 10 + i), np.zeros(n, int), example=i, labels={"label": i % 3})
                for n in sizes
            ]
        )
    return made


def make(count: int = 50, windows: bool = False, **changes) -> TaskBatches:
    given = {"examples": 12, "seed": 0} | changes
    return TaskBatches(examples(count, windows), LAYOUT, 0, **given)


def counted(batch) -> list[int]:
    return batch["example"][batch["segment_weights"] > 0].tolist()


@pytest.mark.smoke
@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_example_once_an_epoch(windows, shuffle):
    data = make(windows=windows, shuffle=shuffle)
    segments = Counter({i: len(group) for i, group in enumerate(data.segments)})
    steps = data.epoch_batches(0)
    assert steps == 5  # 50 examples, 12 a batch, the last of two
    for epoch in (0, 1, 2):
        batches = [data.batch(epoch * steps + i) for i in range(steps)]
        found = Counter()
        for batch in batches:
            found.update(counted(batch))
        assert found == segments
        assert [len(set(counted(b))) for b in batches] == [12, 12, 12, 12, 2]
        assert [data.locate(epoch * steps + i) for i in (0, steps - 1)] == [
            (epoch, 0),
            (epoch, steps - 1),
        ]


def test_windows_of_an_example_stay_in_one_batch():
    data = make(windows=True)
    homes = {}
    for step in range(data.epoch_batches(0)):
        for example in set(counted(data.batch(step))):
            assert homes.setdefault(example, step) == step


def test_a_batch_depends_on_seed_and_step_alone():
    data, fresh = make(), make()
    in_order = [data.batch(step) for step in range(8)]
    for step in (7, 2, 0, 7):
        again = fresh.batch(step)
        assert all(np.array_equal(again[k], in_order[step][k]) for k in again)
    assert sorted(counted(make(seed=1).batch(0))) != sorted(counted(in_order[0]))
    assert sorted(counted(in_order[5])) != sorted(counted(in_order[0])), "same order each epoch"


def test_parts_of_a_batch_are_the_rows_of_the_whole():
    data = make()
    whole, rows = data.batch(1), data.batch_rows(1)
    parts = [make().batch(1, 0, 2), make().batch(1, 2, rows)]
    for name in whole:
        assert np.array_equal(np.concatenate([p[name] for p in parts]), whole[name]), name
    assert whole["rows"].tolist() == list(range(rows))


@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_row_counts_are_few_and_divide_and_are_filled_with_weight_0(multiple):
    data = make(1000, examples=50, row_multiple=multiple)
    epoch = data.epoch_batches(0)
    rows = [data.batch_rows(step) for step in range(20 * epoch)]
    assert len(set(rows[:epoch])) <= 2 and len(set(rows)) <= 4
    assert all(n % multiple == 0 for n in rows)
    for step in range(epoch):
        batch = data.batch(step)
        assert len(batch["tokens"]) == rows[step]
        padding = (batch["segments"] == 0).all(1)
        assert not batch["segment_weights"][padding].any()
        assert rows[step] == min(data.row_counts) or rows[step] - padding.sum() > min(rows)


@pytest.mark.parametrize("multiple", [1, 8])
def test_a_set_smaller_than_a_batch_is_one_batch(multiple):
    few = make(5, examples=12, row_multiple=multiple)
    assert few.epoch_batches(0) == 1 and sorted(counted(few.batch(0))) == list(range(5))
    assert few.batch_rows(0) % multiple == 0


def test_without_shuffling_the_examples_come_in_their_order():
    data = make(shuffle=False)
    assert sorted(counted(data.batch(0))) == list(range(12))
    assert sorted(counted(data.batch(4))) == [48, 49]


def test_rows_of_the_sentiment_task_are_full(tmp_path):
    source = SourceConfig("bundled:sentiment/customer_reviews_train")
    data = DataConfig(
        corpus=(SourceConfig("bundled:corpus/factbook_background"),), cache=str(tmp_path)
    )
    tokens = corpus.make_tokenizer(TokenizerConfig(vocab_size=2000), data)
    found = list(sources.read(dataclasses.replace(source, take=3000), "classification"))
    model = dataclasses.replace(preset("bert_tiny"), vocab_size=tokens.vocab_size)
    labels = tuple(sorted({e["label"] for e in found}))
    task = make_task(SequenceClassificationConfig(labels), model, tokens, 128, 16)
    segments = [task.segments(e, i, True) for i, e in enumerate(found)]
    batches = TaskBatches(segments, task.layout, tokens.pad, examples=32, seed=0)
    assert batches.fill() >= 0.85
    real = sum(np.count_nonzero(batches.batch(s)["segments"]) for s in range(94))
    total = sum(batches.batch_rows(s) * 128 for s in range(94))
    assert batches.epoch_batches(0) == 94 and abs(real / total - batches.fill()) < 1e-9

"""`launch.py data` on a task: how much of what it is measured on has been read."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from research.checkpoints import lineage
from research.checkpoints.checkpoint import write_checkpoint
from research.commands import data
from research.config import Config
from research.data.config import DataConfig
from research.data.sources import SourceConfig, fingerprint


def counted(start, end):
    return " ".join(f"word{number}" for number in range(start, end))


def split(*texts):
    return SimpleNamespace(examples=[{"id": "1", "text": text} for text in texts])


SPLITS = {
    "train": split(counted(0, 13), counted(13, 20)),
    "validation": split(counted(5, 15), counted(30, 40), "short"),
    "test": split(*(counted(i, i + 8) for i in range(60, 1668, 8))),
}


@pytest.fixture
def shown(monkeypatch):
    """What is said of a fine-tuning on SPLITS."""
    monkeypatch.setattr(data.corpus, "split", lambda _, kind, name: SPLITS[name])

    def run(init_from="", init="restore"):
        config = Config(init_from=init_from, init=init, data=DataConfig(test=SourceConfig("x:y")))
        header, *lines = data.overlaps(
            SimpleNamespace(config=config, task=SimpleNamespace(kind="classification"))
        )
        assert header == "overlap of held-out examples, in 8-grams of words"
        return lines

    return run


def save(path, *entries):
    params = {"backbone": {"kernel": np.zeros(2, np.float32)}}
    write_checkpoint(
        str(path), 1, params, {}, "{}", {lineage.READ: list(entries)} if entries else {}
    )
    return str(path)


TRAIN = [
    "  validation and the training split: 33.33 % of the examples share an 8-gram (1 of 3; 1 are "
    "shorter), 16.67 % of the 8-grams are shared (1 of 6)",
    "  warning: that is more than 0.5 % of the examples; their score may measure memorisation",
]
TEST = (
    "  test and the training split: 0.00 % of the examples share an 8-gram (0 of 201; 0 are "
    "shorter), 0.00 % of the 8-grams are shared (0 of 201)"
)


def test_overlap_with_the_training_split_is_counted(shown):
    assert shown() == [*TRAIN, TEST]


def test_overlap_with_what_the_start_has_read_is_counted_as_far_as_it_is_known(shown, tmp_path):
    rows = [{"id": str(i), "text": t} for i, t in enumerate((counted(60, 76), counted(1, 3)))]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = f"files:{tmp_path / 'c.jsonl'}"
    entry = {"source": {"name": name}, "kind": "document", "held_out_percent": 0.0}
    entry |= {"fingerprint": fingerprint(SourceConfig(name))}
    start = save(tmp_path / "start", entry, entry | {"fingerprint": "another"})
    lines = shown(init_from=start)
    assert lines == [
        *TRAIN,
        f"  validation and what {start} has read: 0.00 % of the examples share an 8-gram (0 of 3; "
        "1 are shorter), 0.00 % of the 8-grams are shared (0 of 6)",
        TEST,
        # 2 of 201: above the limit
        f"  test and what {start} has read: 1.00 % of the examples share an 8-gram (2 of 201; 0 are"
        " shorter), 1.00 % of the 8-grams are shared (2 of 201)",
        TRAIN[1],
        f"  not compared: {name} has changed since it was read",
    ]
    fresh = shown(init_from=start, init="fresh")  # takes the shape alone
    assert fresh == [*TRAIN, TEST]


def test_a_start_that_does_not_say_what_it_has_read_is_named(shown, tmp_path):
    start = save(tmp_path / "start")
    assert shown(init_from=start) == [
        *TRAIN,
        TEST,
        f"  not compared: what {start} has read is not written in it",
    ]

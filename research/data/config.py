"""The data part of a config."""

import dataclasses
from typing import Literal

from research.data.sources import SourceConfig


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer to train on the corpus, to load, or, "checkpoint", to take from `init_from`.

    `path` (kind "file"): vocab.txt, tokenizer.json, encoder.json beside vocab.bpe, or their folder.
    `add_tokens` are appended as special tokens; a restored embedding grows by their rows.
    """

    kind: Literal["wordpiece", "byte_bpe", "characters", "bytes", "file", "checkpoint"] = (
        "wordpiece"
    )
    vocab_size: int = 8192
    lowercase: bool = False
    path: str = ""
    add_tokens: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where text comes from, and the rows it is laid out in.

    `corpus` feeds pre-training and the training of a tokenizer; `train`, `validation` and `test`
    feed a task. `length` is L, tokens of a row; `slots` is S, examples of a row at most.
    `weights`: shares of the sources of `corpus`, in their order, in the rows of a pre-training, of
    any sum; without them all documents are read once an epoch.
    """

    corpus: tuple[SourceConfig, ...] = ()
    weights: tuple[float, ...] = ()
    held_out_percent: float = 2.0
    train: SourceConfig | None = None
    validation: SourceConfig | None = None
    test: SourceConfig | None = None
    length: int = 128
    slots: int = 16
    cache: str = ".cache"

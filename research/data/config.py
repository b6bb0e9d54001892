"""The data part of a config."""

import dataclasses
from typing import Literal

from research.data.sources import SourceConfig


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer to train on the corpus, to load, or, "checkpoint", to take from `init_from`.

    Attributes:
      kind: trained on the corpus (wordpiece, byte_bpe, characters), plain bytes, of a file, or the
        checkpoint's.
      vocab_size: entries of a trained one.
      lowercase: whether letters lose their case and accents; WordPiece only.
      path: of kind "file": vocab.txt, tokenizer.json, encoder.json beside vocab.bpe, or their
        folder.
      add_tokens: appended as special tokens; a restored embedding grows by their rows.
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

    Attributes:
      corpus: sources of documents, for pre-training and the training of a tokenizer.
      weights: shares of the sources of `corpus`, in their order, in the rows of a pre-training, of
        any sum; without them all documents are read once an epoch.
      held_out_percent: share of the corpus's documents that is kept for validation.
      train: source of the examples that a task is trained on.
      validation: source of the examples that it is measured on while it trains.
      test: source of the examples for `evaluate --split=test`.
      length: L, tokens of a row.
      slots: S, pieces of documents, sentence pairs or examples of a row at most.
      cache: folder of token stores, outlines of corpora and trained tokenizers.
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

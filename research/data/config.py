"""The data part of a config."""

import dataclasses
from typing import Annotated, Literal

from research.data.sources import SourceConfig
from research.errors import UserError
from research.values import Range, Size

HELD_OUT = "held_out:"  # begins the name of a validation that is a share of `train`


def _on_disk(folder: str) -> str:
    if "://" not in folder:
        return ""
    return (
        "must be a folder: tokenizers and token stores are read by memory mapping; sources and "
        "workdirs may lie on a bucket"
    )


def _weight(value: float) -> str:
    if value > 0:
        return ""
    return "must be above 0; a source that is not wanted is left out of config.data.corpus"


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
      parse_special: whether a special token that a text or prompt spells out becomes that token;
        if not, only those are that the project writes itself (turns of a chat, masks to fill).
    """

    kind: Literal["wordpiece", "byte_bpe", "characters", "bytes", "file", "checkpoint"] = (
        "wordpiece"
    )
    vocab_size: int = 8192
    lowercase: bool = False
    path: str = ""
    add_tokens: tuple[str, ...] = ()
    # Not in repr, which the cache's key is made of: what is learnt does not depend on it.
    parse_special: bool = dataclasses.field(default=False, repr=False)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where text comes from, and the rows it is laid out in.

    Attributes:
      corpus: sources of documents, for pre-training and the training of a tokenizer.
      weights: shares of the sources of `corpus`, in their order, in the rows of a pre-training, of
        any sum; without them all documents are read once an epoch.
      held_out_percent: share of the corpus's documents that is kept for validation.
      train: source of the examples that a task is trained on; its `fields` and `label_names` hold
        for the other splits too, where these have none of their own.
      validation: source of the examples that it is measured on while it trains; "held_out:5" is
        5 % of `train`, by a hash of the ids.
      test: source of the examples for `evaluate --split=test`.
      length: L, tokens of a row.
      segments: S, pieces of documents, sentence pairs or examples of a row at most.
      cache: folder of token stores, outlines of corpora and trained tokenizers.
    """

    corpus: tuple[SourceConfig, ...] = ()
    weights: tuple[Annotated[float, _weight], ...] = ()
    held_out_percent: Annotated[float, Range(0, 100, "()")] = 2.0
    train: SourceConfig | None = None
    validation: SourceConfig | None = None
    test: SourceConfig | None = None
    length: Annotated[int, Range(8)] = 128
    segments: Size = 16
    cache: Annotated[str, _on_disk] = ".cache"

    def source(self, split: str) -> SourceConfig:
        """What a task's split is read from; the test examples are those of the validation where
        there are no others."""
        return (self.test if split == "test" else None) or (
            self.train if split == "train" else self.validation
        )


def with_held_out(data: DataConfig) -> DataConfig:
    """The config with a validation "held_out:5" and `train` as two parts of the same source.

    Raises UserError for a share that is not one, or one of nothing.
    """
    if data.validation is None or not data.validation.name.startswith(HELD_OUT):
        return data
    text, train = data.validation.name.removeprefix(HELD_OUT), data.train
    try:
        percent = float(text)
    except ValueError:
        percent = 0.0
    if not 0.0 < percent < 100.0 or train is None or train.part:
        raise UserError(
            f"config.data.validation={HELD_OUT}{text}: give a number of percent between 0 and 100, "
            f"such as {HELD_OUT}5, of a config.data.train that is whole"
        )
    if data.validation != SourceConfig(data.validation.name):
        raise UserError(
            f"config.data.validation={HELD_OUT}{text} is read as config.data.train is; it has no "
            "keys of its own"
        )
    held_out, rest = (0.0, percent), (percent, 100.0)
    return dataclasses.replace(
        data,
        train=dataclasses.replace(train, part=rest),
        validation=dataclasses.replace(train, part=held_out),
    )

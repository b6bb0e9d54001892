"""The data part of a config."""

import dataclasses
from typing import Annotated, Literal

from research.data.sources import SourceConfig
from research.errors import UserError
from research.values import Range, Size

HELD_OUT = "held_out:"  # prefix of a validation that is a share of `train`


def _on_disk(folder: str) -> str:
    if "://" not in folder:
        return ""
    return (
        "must be a folder: tokenizers and token stores are read by memory mapping; sources and "
        "workdirs may be on a bucket"
    )


def _weight(value: float) -> str:
    if value > 0:
        return ""
    return "must be above 0; leave an unwanted source out of config.data.corpus"


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer to train on the corpus, to load, or to take from `init_from` ("checkpoint").

    Attributes:
      kind: trained on the corpus (wordpiece, byte_bpe, characters), plain bytes, from a file, or
        the checkpoint's.
      vocab_size: entries of a trained tokenizer.
      lowercase: whether to remove case and accents; WordPiece only.
      path: for kind "file": vocab.txt, tokenizer.json, encoder.json beside vocab.bpe, or their
        folder.
      add_tokens: special tokens to append; a restored embedding grows by their rows.
      parse_special: whether a special token that is spelt out in a text or prompt becomes that
        token; if not, only those that the project writes itself do (turns of a chat, masks).
    """

    kind: Literal["wordpiece", "byte_bpe", "characters", "bytes", "file", "checkpoint"] = (
        "wordpiece"
    )
    vocab_size: int = 8192
    lowercase: bool = False
    path: str = ""
    add_tokens: tuple[str, ...] = ()
    # Not in repr, which the cache's key depends on: training does not use it.
    parse_special: bool = dataclasses.field(default=False, repr=False)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The sources of text, and the size of rows.

    Attributes:
      corpus: sources of documents, to pre-train and to train a tokenizer.
      weights: the share of each source of `corpus` in the rows of pre-training, in order and with
        any sum; without them all documents are read once per epoch.
      held_out_percent: share of the corpus's documents that is kept for validation.
      train: source of a task's training examples; its `fields` and `label_names` apply to the other
        splits too, unless they have their own.
      validation: source of the examples for evaluation during training; "held_out:5" is 5 % of
        `train`, by a hash of the ids.
      test: source of the examples for `evaluate --split=test`.
      length: L, tokens of a row.
      segments: S, the maximum number of document slices, sentence pairs or examples in a row.
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
        """Returns the source of a task's split; without a test source that of the validation is
        used."""
        return (self.test if split == "test" else None) or (
            self.train if split == "train" else self.validation
        )


def with_held_out(data: DataConfig) -> DataConfig:
    """Resolves a validation "held_out:5": it and `train` become two parts of the same source.

    Raises UserError for an invalid share, or if there is no whole `train` to take it from.
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
            f"config.data.validation={HELD_OUT}{text}: give a percentage between 0 and 100, such "
            f"as {HELD_OUT}5, of a config.data.train without part"
        )
    if data.validation != SourceConfig(data.validation.name):
        raise UserError(
            f"config.data.validation={HELD_OUT}{text} is read like config.data.train; it has no "
            "keys of its own"
        )
    held_out, rest = (0.0, percent), (percent, 100.0)
    return dataclasses.replace(
        data,
        train=dataclasses.replace(train, part=rest),
        validation=dataclasses.replace(train, part=held_out),
    )

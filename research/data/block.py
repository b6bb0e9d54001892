"""One block of a token store: some documents as arrays, written once, then memory-mapped."""

import dataclasses
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from research.data.encoding import Encoding
from research.data.sentences import split_sentences
from research.data.tokenizer import Tokenizer

ARRAYS = ("tokens", "word_starts", "documents", "sentences", "document_sentences")
PART = ".part-"  # in the name of a folder that is being written


@dataclasses.dataclass(frozen=True)
class Block:
    """Documents of one block, memory-mapped.

    tokens: uint32 [T]; word_starts: bool [T]; documents: int64 [n + 1] token offsets;
    sentences: int64 [m + 1] token offsets; document_sentences: int64 [n + 1] sentence offsets.
    """

    tokens: np.ndarray
    word_starts: np.ndarray
    documents: np.ndarray
    sentences: np.ndarray
    document_sentences: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document."""
        return np.diff(self.documents)

    def slice(self, document: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, word_starts) from `start` to `end` of a document."""
        at = int(self.documents[document])
        return self.tokens[at + start : at + end], self.word_starts[at + start : at + end]

    def sentence_offsets(self) -> list[list[int]]:
        """For each document the offsets of its sentences within it, its length last."""
        bounds = self.document_sentences
        return [
            (self.sentences[bounds[d] : bounds[d + 1] + 1] - self.documents[d]).tolist()
            for d in range(len(bounds) - 1)
        ]

    @property
    def counts(self) -> dict[str, int]:
        """Documents, sentences and tokens."""
        return {
            "documents": len(self.documents) - 1,
            "sentences": len(self.sentences) - 1,
            "tokens": int(self.documents[-1]),
        }


def load(folder: Path) -> Block:
    """The block in a folder."""
    return Block(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS))


def write(folder: Path, texts: Iterable[str], tokenizer: Tokenizer) -> None:
    """Tokenises texts into a folder, which appears when it is whole; it may be there already."""
    put(folder, dict(zip(ARRAYS, _arrays(list(texts), tokenizer), strict=True)))


def put(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as the files of a folder, which appears when it is whole.

    Where another process was first with the same folder, its own is kept.
    """
    part = folder.with_name(f"{folder.name}{PART}{uuid.uuid4().hex}")
    part.mkdir(parents=True)
    try:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
        os.rename(part, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _arrays(texts: list[str], tokenizer: Tokenizer) -> tuple[np.ndarray, ...]:
    """The arrays of a block, in the order of ARRAYS."""
    tokens, words = [], []
    documents, sentences, document_sentences = [0], [], [0]
    for text, encoding in zip(texts, tokenizer.encode_batch(texts), strict=True):
        if not len(encoding.ids):
            continue
        starts = np.diff(encoding.words, prepend=-1) != 0
        tokens.append(encoding.ids.astype(np.uint32))
        words.append(starts)
        sentences.extend((documents[-1] + _sentence_starts(text, encoding)).tolist())
        documents.append(documents[-1] + len(encoding.ids))
        document_sentences.append(len(sentences))
    sentences.append(documents[-1])
    return (
        np.concatenate(tokens) if tokens else np.zeros(0, np.uint32),
        np.concatenate(words) if words else np.zeros(0, bool),
        np.array(documents, np.int64),
        np.array(sentences, np.int64),
        np.array(document_sentences, np.int64),
    )


def _sentence_starts(text: str, encoding: Encoding) -> np.ndarray:
    """Indices of the tokens that begin a sentence, the first token always among them."""
    starts, at = [], 0
    for sentence in split_sentences(text):
        found = text.find(sentence, at)
        if found >= 0:
            starts.append(found)
            at = found + len(sentence)
    # A token that reaches into a sentence from the white space before it begins it.
    tokens = np.searchsorted(encoding.ends, np.array(starts, np.int64), side="right")
    return np.unique(np.concatenate([[0], tokens[tokens < len(encoding.ids)]]))

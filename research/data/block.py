"""One block of a token store: some documents as arrays, written once, then memory-mapped."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from research.data import checksums, plan
from research.data.encoding import Encoding
from research.data.sentences import split_sentences
from research.data.tokenizer import Tokenizer

OFFSETS = ("documents", "sentences", "document_sentences")
ARRAYS = ("tokens", "word_starts", *OFFSETS, "sources")


@dataclasses.dataclass(frozen=True)
class Block:
    """Documents of one block, memory-mapped.

    tokens: uint32 [T]; word_starts: bool [T]; documents: int64 [n + 1] token offsets;
    sentences: int64 [m + 1] token offsets; document_sentences: int64 [n + 1] sentence offsets;
    sources: int32 [n], the number of each document's source.
    """

    tokens: np.ndarray
    word_starts: np.ndarray
    documents: np.ndarray
    sentences: np.ndarray
    document_sentences: np.ndarray
    sources: np.ndarray

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
        """Documents, sentences and tokens, and documents that make pairs (`plan.paired`)."""
        paired = plan.paired(np.diff(self.document_sentences), self.sources)
        return {
            "documents": len(self.documents) - 1,
            "sentences": len(self.sentences) - 1,
            "tokens": int(self.documents[-1]),
            "paired_documents": int(paired.sum()),
        }


def load(folder: Path) -> Block:
    """The block in a folder."""
    return Block(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS))


def fault(folder: Path, tokenizer: Tokenizer) -> str:
    """What cannot be right in the block in a folder; "" for nothing."""
    block = load(folder)
    ends = [block.documents, block.sentences, block.document_sentences]
    last = [len(block.tokens), len(block.tokens), len(block.sentences) - 1]
    for name, offsets, end in zip(OFFSETS, ends, last, strict=True):
        grows = (np.diff(offsets) > 0).all()
        if offsets.dtype != np.int64 or not grows or (offsets[0], offsets[-1]) != (0, end):
            return f"{name} are not the offsets of {end:,}"
    tokens, words = block.tokens, block.word_starts
    if (tokens.dtype, words.dtype, words.shape) != (np.uint32, np.bool_, tokens.shape):
        return "tokens and word_starts do not belong together"
    if (block.sources.dtype, len(block.sources)) != (np.int32, len(block.documents) - 1):
        return "sources are not those of its documents"
    if len(tokens) and tokens.max() >= tokenizer.vocab_size:
        return f"it has the id {tokens.max()}, and the vocabulary {tokenizer.vocab_size:,} entries"
    special = () if tokenizer.parse_special else tokenizer.parsed_only
    if np.isin(tokens, special).any():  # of an earlier version
        return "a special token that a text spells out became that token"
    return ""


def write(folder: Path, texts: Sequence[str], sources: Sequence[int], tokenizer: Tokenizer) -> None:
    """Tokenises texts into a folder, which appears when it is whole; it may be there already.

    sources: the number of each text's source.
    """
    arrays = dict(zip(ARRAYS, _arrays(texts, sources, tokenizer), strict=True))
    checksums.save_arrays(folder, arrays)


def _arrays(
    texts: Sequence[str], sources: Sequence[int], tokenizer: Tokenizer
) -> tuple[np.ndarray, ...]:
    """The arrays of a block, in the order of ARRAYS."""
    tokens, words, numbers = [], [], []
    documents, sentences, document_sentences = [0], [], [0]
    encodings = tokenizer.encode_batch(texts)
    for text, source, encoding in zip(texts, sources, encodings, strict=True):
        if not len(encoding.ids):
            continue
        starts = np.diff(encoding.words, prepend=-1) != 0
        tokens.append(encoding.ids.astype(np.uint32))
        words.append(starts)
        sentences.extend((documents[-1] + _sentence_starts(text, encoding)).tolist())
        documents.append(documents[-1] + len(encoding.ids))
        document_sentences.append(len(sentences))
        numbers.append(source)
    sentences.append(documents[-1])
    return (
        np.concatenate(tokens) if tokens else np.zeros(0, np.uint32),
        np.concatenate(words) if words else np.zeros(0, bool),
        np.array(documents, np.int64),
        np.array(sentences, np.int64),
        np.array(document_sentences, np.int64),
        np.array(numbers, np.int32),
    )


def _sentence_starts(text: str, encoding: Encoding) -> np.ndarray:
    """Indices of the tokens that begin a sentence, the first token always among them."""
    starts, at = [], 0
    for sentence in split_sentences(text):
        start = text.find(sentence, at)
        if start >= 0:
            starts.append(start)
            at = start + len(sentence)
    # A token that reaches into a sentence from the white space before it begins it.
    tokens = np.searchsorted(encoding.ends, np.array(starts, np.int64), side="right")
    return np.unique(np.concatenate([[0], tokens[tokens < len(encoding.ids)]]))

"""The token store: documents as token ids with sentence and word offsets, written once.

Nothing of an objective is in it, so every ablation reads the same store. An entry of the cache is
a folder named by a key of source, tokenizer and FORMAT; it holds one folder for each block of
input documents and, last, `done.json`.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from research.data import sources
from research.data.sentences import split_sentences
from research.data.sources import SourceConfig
from research.data.tokenizer import Encoding, Tokenizer
from research.errors import UserError
from research.monitoring.progress import Progress

FORMAT = 1  # raise it when the content for the same source and tokenizer changes
BLOCK_BYTES = 4 << 20  # UTF-8 bytes of text in a block, the last document in whole
ARRAYS = ("tokens", "word_starts", "documents", "sentences", "document_sentences")


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


@dataclasses.dataclass(frozen=True)
class Store:
    """One entry of the cache. `key` is the fingerprint of its content."""

    path: Path
    key: str
    counts: dict[str, int]  # documents, sentences, tokens, bytes

    @property
    def blocks(self) -> int:
        return self.counts["blocks"]

    def block(self, index: int) -> Block:
        return _open_block(str(self.path / f"block_{index:05d}"))


@functools.lru_cache(maxsize=64)
def _open_block(path: str) -> Block:
    return Block(*(np.load(f"{path}/{name}.npy", mmap_mode="r") for name in ARRAYS))


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


def _write_block(folder: Path, texts: list[str], tokenizer: Tokenizer) -> dict[str, int]:
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
    arrays = (
        np.concatenate(tokens) if tokens else np.zeros(0, np.uint32),
        np.concatenate(words) if words else np.zeros(0, bool),
        np.array(documents, np.int64),
        np.array(sentences, np.int64),
        np.array(document_sentences, np.int64),
    )
    folder.mkdir()
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)
    return {
        "documents": len(documents) - 1,
        "sentences": len(sentences) - 1,
        "tokens": documents[-1],
        "bytes": sum(len(t.encode()) for t in texts),
    }


def _blocks(texts: Iterable[str], at_most: int) -> Iterator[list[str]]:
    block, size = [], 0
    for text in texts:
        block.append(text)
        size += len(text.encode())
        if size >= at_most:
            yield block
            block, size = [], 0
    if block:
        yield block


def documents(
    corpus: tuple[SourceConfig, ...], held_out_percent: float, split: str
) -> Iterator[dict]:
    """The documents of a corpus's "train" or "validation" split, one of each source in turn.

    So a block has documents of all sources, and a random next sentence is one from anywhere.
    """
    streams = [sources.read(source, "document") for source in corpus]
    while streams:
        for stream in list(streams):
            example = next(stream, None)
            if example is None:
                streams.remove(stream)
            elif sources.held_out(example["id"], held_out_percent) == (split == "validation"):
                yield example


def build(
    corpus: tuple[SourceConfig, ...],
    split: str,
    held_out_percent: float,
    tokenizer: Tokenizer,
    cache: str,
    quiet: bool = False,
) -> Store:
    """The store of a corpus's split, from the cache or built now; a failed build leaves no entry.

    Raises UserError where the split has no document.
    """
    parts = [sources.fingerprint(s) for s in corpus] + [
        f"{split} {held_out_percent}",
        tokenizer.fingerprint(),
        f"{FORMAT} {BLOCK_BYTES}",
    ]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    path = Path(cache) / "tokens" / key
    done = path / "done.json"
    if done.exists():
        return Store(path, key, json.loads(done.read_text()))
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{key}.building-"))
    try:
        counts = {"documents": 0, "sentences": 0, "tokens": 0, "bytes": 0}
        blocks = 0
        texts = (e["text"] for e in documents(corpus, held_out_percent, split))
        with Progress(None, f"tokenise {split}", unit="block", active=not quiet) as progress:
            for block in _blocks(texts, BLOCK_BYTES):
                for name, n in _write_block(work / f"block_{blocks:05d}", block, tokenizer).items():
                    counts[name] += n
                blocks += 1
                progress.update(blocks, documents=counts["documents"], tokens=counts["tokens"])
        if not counts["tokens"]:
            names = ", ".join(s.name for s in corpus)
            raise UserError(
                f"no text in the {split} split of {names} "
                f"({counts['documents']} documents; data.held_out_percent={held_out_percent}). A "
                "document is a line of a .jsonl, a record of a .csv, or a whole .txt"
            )
        (work / "done.json").write_text(json.dumps(counts | {"blocks": blocks}))
        try:
            os.rename(work, path)
        except OSError:  # another process was first with the same content
            if not done.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Store(path, key, json.loads(done.read_text()))

"""The token store: documents as token ids with sentence and word offsets, written once.

It does not depend on the objective, so all ablations read the same store. A cache entry is a folder
named by a key of sources, tokenizer and FORMAT. It has a folder for each block of documents and,
written last, `done.json`. Any process can make any missing block (see `Job`), with the same result.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from research import bucket
from research.data import block as blocks
from research.data import checksums, outline, sources
from research.data.block import Block
from research.data.left_out import LeftOut
from research.data.sources import SourceConfig
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.monitoring.progress import Progress

SECONDS_OF_A_PART = 3600  # age at which an unfinished file counts as abandoned
FORMAT = 3  # increase it when the content for the same source and tokenizer changes
BLOCK_BYTES = 4 << 20  # UTF-8 bytes of text in a block, which its last document may exceed
ARRANGED = ("source", "index", "blocks", "bytes", "pieces", "duplicates")
SHOWN = 5  # missing blocks that an error names


@dataclasses.dataclass(frozen=True)
class Store:
    """One cache entry. `key` is the fingerprint of its content. `job` checks and rebuilds damaged
    files when they are read; without it nothing is checked."""

    path: Path
    key: str
    # documents, sentences, tokens, bytes, blocks; duplicates (left out); paired_documents
    counts: dict[str, int]
    job: "Job | None" = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def blocks(self) -> int:
        return self.counts["blocks"]

    def block(self, index: int) -> Block:
        return self.job.block(index) if self.job else blocks.load(self.path / _name(index))

    def byte_lengths(self, spelt: np.ndarray, index: int) -> np.ndarray:
        """Returns the UTF-8 bytes of text of each id in a block, float64 [vocab_size].

        spelt: `Tokenizer.byte_lengths`, scaled so that the block's tokens together have the bytes
        of its documents, whatever the normalizer changed or dropped between tokens.
        """
        total = spelt[self.block(index).tokens].sum()
        if self.job:
            self.job.arrangement  # noqa: B018  (checks it)
        texts = int(np.load(self.path / "arrangement" / "bytes.npy", mmap_mode="r")[index])
        return spelt * (texts / total) if total else spelt.astype(np.float64)


def documents(
    corpus: tuple[SourceConfig, ...], held_out_percent: float, split: str
) -> Iterator[dict]:
    """Yields the documents of a corpus's "train" or "validation" split, one of each source in turn,
    with duplicates.
    """
    streams = [sources.read(source, "document") for source in corpus]
    while streams:
        for stream in list(streams):
            example = next(stream, None)
            if example is None:
                streams.remove(stream)
            elif sources.held_out(example["id"], held_out_percent) == (split == "validation"):
                yield example


@dataclasses.dataclass(frozen=True)
class Job:
    """Builds a store in three stages; any process can do any part of them, also repeatedly.

    The stages are the outlines of all pieces (files) of the sources, the arrangement of documents
    in blocks, and the blocks. `only`: the number of the one source whose documents the store has,
    after duplicates in the whole corpus are removed.
    """

    corpus: tuple[SourceConfig, ...]
    split: str
    held_out_percent: float
    tokenizer: Tokenizer
    cache: str
    only: int | None = None

    @functools.cached_property
    def key(self) -> str:
        parts = [
            *self.fingerprints,
            f"{self.split} {self.held_out_percent}",
            self.tokenizer.fingerprint(),
            f"{FORMAT} {BLOCK_BYTES}",
        ]
        parts += [] if self.only is None else [f"only source {self.only}"]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @functools.cached_property
    def path(self) -> Path:
        return Path(self.cache) / "tokens" / self.key

    @functools.cached_property
    def fingerprints(self) -> list[str]:
        """The fingerprints of the sources."""
        return [sources.fingerprint(source) for source in self.corpus]

    @functools.cached_property
    def _readers(self) -> list[list]:
        return [sources.pieces(source) for source in self.corpus]

    @property
    def name(self) -> str:
        """The name of the store in messages."""
        return self.split if self.only is None else f"{self.split}, {self.corpus[self.only].name}"

    def __getstate__(self) -> dict:
        """Returns the fields for another process, without cached properties."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    # -- outlines ---------------------------------------------------------------------------

    @functools.cached_property
    def pieces(self) -> list[tuple[int, int]]:
        """(source, piece) numbers of all pieces."""
        return [(s, p) for s, readers in enumerate(self._readers) for p in range(len(readers))]

    def _outline(self, source: int, piece: int) -> Path:
        key = hashlib.sha256(f"{self.fingerprints[source]} {FORMAT}".encode()).hexdigest()[:16]
        return Path(self.cache) / "outlines" / key / f"{piece:05d}.npy"

    def make_outline(self, source: int, piece: int) -> None:
        """Reads a piece and writes its outline, unless it exists."""
        if not self._outline(source, piece).exists():
            self._write_outline(source, piece)

    def _write_outline(self, source: int, piece: int) -> None:
        left_out = LeftOut()
        listed = outline.outline(self._readers[source][piece](left_out))
        for line in left_out.lines():
            print(f"{self.corpus[source].name}: {line}", flush=True)
        path = self._outline(source, piece)
        path.parent.mkdir(parents=True, exist_ok=True)
        checksums.save(path, lambda part: np.save(part, listed))

    def _read_outline(self, source: int, piece: int) -> np.ndarray:
        path = self._outline(source, piece)
        make = functools.partial(self._write_outline, source, piece)
        checksums.mend(path, make, lambda: outline.fault(np.load(path)))
        return np.load(path)

    # -- the arrangement --------------------------------------------------------------------

    @functools.cached_property
    def arrangement(self) -> dict[str, np.ndarray]:
        """`outline.arrange` of this store, memory-mapped; computed from all outlines if missing.

        Raises UserError if the split has no document.
        """
        folder, count = self.path / "arrangement", len(self.corpus)
        make = functools.partial(self._arrange, folder)
        if not folder.is_dir() and not self._done.exists():
            make()
        checksums.mend(folder, make, lambda: outline.misplaced(_arrays(folder), count))
        return _arrays(folder)

    def _arrange(self, folder: Path) -> None:
        outlines = [
            [self._read_outline(s, p) for p in range(len(readers))]
            for s, readers in enumerate(self._readers)
        ]
        which = (self.split, self.held_out_percent, BLOCK_BYTES, self.only)
        arrangement = outline.arrange(outlines, *which)
        self._check_content(arrangement)
        checksums.save_arrays(folder, arrangement)

    def _check_content(self, arrangement: dict[str, np.ndarray]) -> None:
        for source, ends in zip(self.corpus, arrangement["pieces"], strict=True):
            if not ends[-1]:  # an empty source: reading it raises the reason
                next(sources.read(source, "document"), None)
        if not arrangement["bytes"].sum():
            chosen = self.corpus if self.only is None else (self.corpus[self.only],)
            copies = int(arrangement["duplicates"])
            raise UserError(
                f"no text in the {self.split} split of {', '.join(s.name for s in chosen)} "
                f"({len(arrangement['index'])} documents; {copies} more are copies of earlier "
                f"ones; data.held_out_percent={self.held_out_percent}). A document is a line "
                "of a .jsonl, a record of a .csv or, in a .txt, what the source's document says"
            )

    # -- blocks -----------------------------------------------------------------------------

    def block_count(self) -> int:
        """Returns the number of blocks in the store; all outlines must exist."""
        return len(self.arrangement["bytes"])

    def missing(self) -> list[int]:
        """Returns the numbers of missing blocks."""
        names = set(os.listdir(self.path))
        return [number for number in range(self.block_count()) if _name(number) not in names]

    def make_blocks(self, wanted: Iterable[int]) -> Iterator[dict[str, int]]:
        """Tokenises missing blocks and yields the counts of each wanted block.

        If blocks come in order, each file is read once.
        """
        texts = outline.Texts(self._readers, self.arrangement["pieces"])
        for number in wanted:
            yield self.block(number, texts).counts

    def block(self, number: int, texts: outline.Texts | None = None) -> Block:
        """Returns a block; makes it if it is missing, and again, with a message, if damaged."""
        folder = self.path / _name(number)

        def write() -> None:
            arrangement = self.arrangement
            read = texts or outline.Texts(self._readers, arrangement["pieces"])
            span = slice(*arrangement["blocks"][number : number + 2])
            numbers = arrangement["source"][span].tolist()
            content = list(map(read, numbers, arrangement["index"][span].tolist()))
            blocks.write(folder, content, numbers, self.tokenizer)

        if not folder.is_dir() and not self._done.exists():
            write()
        checksums.mend(folder, write, lambda: blocks.fault(folder, self.tokenizer))
        return blocks.load(folder)

    def mark_whole(self) -> Store:
        """Counts the blocks, which must all exist, and marks the store as whole."""
        arrangement = self.arrangement
        each = [self.block(number).counts for number in range(len(arrangement["bytes"]))]
        counts = {name: sum(c[name] for c in each) for name in each[0]}
        counts |= {"bytes": int(arrangement["bytes"].sum()), "blocks": len(each)}
        counts |= {"duplicates": int(arrangement["duplicates"])}
        checksums.save(self._done, lambda part: part.write_text(json.dumps(counts)))
        # Remove the parts of killed processes, but not young ones: other processes may be writing
        # the same blocks. Ages are by the clock of the disk, which may differ from the host's.
        now = self._done.stat().st_mtime
        for left in self.path.glob(f"*{bucket.PART}*"):
            with contextlib.suppress(OSError):  # gone, or not ours to remove
                if now - left.stat().st_mtime > SECONDS_OF_A_PART:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        return Store(self.path, self.key, counts, self)

    # -- the whole --------------------------------------------------------------------------

    @property
    def _done(self) -> Path:
        return self.path / "done.json"

    def opened(self) -> Store | None:
        """Returns the store if it is whole, else None."""
        if not self._done.exists() or self.missing():
            return None
        checksums.mend(self._done, self.mark_whole, self._miscounted)
        return Store(self.path, self.key, json.loads(self._done.read_text()), self)

    def _miscounted(self) -> str:
        """Says what is wrong in done.json; "" for nothing."""
        counts, arrangement = json.loads(self._done.read_text()), self.arrangement
        written = (counts["blocks"], counts["bytes"], counts["duplicates"])
        sizes = arrangement["bytes"]
        right = (len(sizes), int(sizes.sum()), int(arrangement["duplicates"]))
        return "" if written == right else f"it says {written}, but the arrangement {right}"

    def build(self, quiet: bool = False) -> Store:
        """Returns the store from the cache, or makes it.

        Raises UserError if the split has no document, or if the store is made in shards and not
        whole yet.
        """
        store = self.opened()
        if store is None:
            self.refuse_part()
            self.make(quiet=quiet)
            store = self.opened()
        return store

    def make(self, shard: int = 0, shards: int = 1, quiet: bool = False) -> list[int]:
        """Makes the missing blocks with number = shard (mod shards).

        The processes of several shards share the outlines. Each makes the missing ones, its own
        first, so that no process waits for another.

        Returns the blocks that are still missing; if there are none, the store is whole. Raises
        UserError for a corpus that cannot be read.
        """
        if self.opened():
            return []
        self.path.mkdir(parents=True, exist_ok=True)
        if shards > 1:
            checksums.save(self.path / "shards", lambda part: part.write_text(str(shards)))
        try:
            self._make(shard, shards, quiet)
        except UserError:
            if not (self.path / "arrangement").is_dir():  # no process has made a block of it
                shutil.rmtree(self.path, ignore_errors=True)
            raise
        missing = self.missing()
        if not missing:
            self.mark_whole()
        return missing

    def _make(self, shard: int, shards: int, quiet: bool) -> None:
        order = sorted(range(len(self.pieces)), key=lambda n: n % shards != shard)  # its own first
        wanted = [self.pieces[n] for n in order if not self._outline(*self.pieces[n]).exists()]
        with Progress(
            len(wanted), "read documents", unit="file", active=not quiet and len(wanted) > 1
        ) as progress:
            for done, piece in enumerate(wanted, 1):
                self.make_outline(*piece)
                progress.update(done)
        numbers = range(shard, self.block_count(), shards)
        documents = tokens = 0
        with Progress(
            len(numbers), f"tokenise {self.name}", unit="block", active=not quiet
        ) as progress:
            for done, counts in enumerate(self.make_blocks(numbers), 1):
                documents, tokens = documents + counts["documents"], tokens + counts["tokens"]
                progress.update(done, documents=documents, tokens=tokens)

    def refuse_part(self) -> None:
        """Raises UserError if blocks are missing that other shards make."""
        shards = self.path / "shards"
        if not shards.exists():
            return
        text = shards.read_text(errors="replace")
        n = int(text) if text.isdecimal() else 1
        how = "python launch.py data --config=… --shard=I/N (with the same --config.KEY=VALUE)"
        if not self._done.exists() and not (self.path / "arrangement").is_dir():
            raise UserError(
                f"the store of {self.name} is being made in {n} shards and has no block yet "
                f"({self.path}); make them with {how}, for each I from 0 to {n - 1} and N={n}"
            )
        missing = self.missing()
        if missing:
            needed = _few([f"{i}/{n}" for i in sorted({number % n for number in missing})])
            raise UserError(
                f"the store of {self.name} lacks {len(missing)} blocks in {self.path}: "
                f"{_few(missing)}; make them with {how}, for I/N = {needed}; 0/1 makes them all"
            )


def build(
    corpus: tuple[SourceConfig, ...],
    split: str,
    held_out_percent: float,
    tokenizer: Tokenizer,
    cache: str,
    quiet: bool = False,
) -> Store:
    """Builds the store of a corpus's split, see `Job.build`."""
    return Job(corpus, split, held_out_percent, tokenizer, cache).build(quiet)


def _name(index: int) -> str:
    return f"block_{index:05d}"


def _few(items: list) -> str:
    shown = ", ".join(map(str, items[:SHOWN]))
    return f"{shown}, …" if len(items) > SHOWN else shown


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRANGED}

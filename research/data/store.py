"""The token store: documents as token ids with sentence and word offsets, written once.

Nothing of an objective is in it, so every ablation reads the same store. An entry of the cache is
a folder named by a key of sources, tokenizer and FORMAT; it holds one folder for each block of
input documents and, last, `done.json`. Any process can make any block (see `Job`): what is there
is kept, what is missing is made, and the result is the same whoever made it.
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

SECONDS_OF_A_PART = 3600  # after which what is being written is not being written any more
FORMAT = 3  # raise it when the content for the same source and tokenizer changes
BLOCK_BYTES = 4 << 20  # UTF-8 bytes of text in a block, the last document in whole
ARRANGED = ("source", "index", "blocks", "bytes", "pieces", "duplicates")
SHOWN = 5  # missing blocks that an error names


@dataclasses.dataclass(frozen=True)
class Store:
    """One entry of the cache. `key` is the fingerprint of its content; `job` makes again what is
    damaged, once it is looked at (without one nothing is checked)."""

    path: Path
    key: str
    # documents, sentences, tokens, bytes, blocks; duplicates left out; paired_documents
    counts: dict[str, int]
    job: "Job | None" = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def blocks(self) -> int:
        return self.counts["blocks"]

    def block(self, index: int) -> Block:
        return self.job.block(index) if self.job else blocks.load(self.path / _name(index))

    def byte_lengths(self, spelt: np.ndarray, index: int) -> np.ndarray:
        """UTF-8 bytes of text for each id in a block, float64 [vocab_size].

        spelt: `Tokenizer.byte_lengths`, which are scaled so that the block's tokens together have
        the bytes of its documents, whatever a normalizer changed or stands between tokens.
        """
        total = spelt[self.block(index).tokens].sum()
        if self.job:
            self.job.arrangement  # noqa: B018  (looks at it)
        texts = int(np.load(self.path / "arrangement" / "bytes.npy", mmap_mode="r")[index])
        return spelt * (texts / total) if total else spelt.astype(np.float64)


def documents(
    corpus: tuple[SourceConfig, ...], held_out_percent: float, split: str
) -> Iterator[dict]:
    """The documents of a corpus's "train" or "validation" split, one of each source in turn.

    Duplicates are among them.
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
    """The making of a store, in three stages whose parts any process can do, more than once.

    First the outlines of all pieces of the sources (files), then the arrangement of the documents
    in blocks, then the blocks. `only`: the store has the documents of this one source, of those
    that are left of the whole corpus without its duplicates.
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
        """Of the sources."""
        return [sources.fingerprint(source) for source in self.corpus]

    @functools.cached_property
    def _readers(self) -> list[list]:
        return [sources.pieces(source) for source in self.corpus]

    @property
    def name(self) -> str:
        """What it is to a reader."""
        return self.split if self.only is None else f"{self.split}, {self.corpus[self.only].name}"

    def __getstate__(self) -> dict:
        """What another process needs: not what is found out here from files."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    # -- outlines ---------------------------------------------------------------------------

    @functools.cached_property
    def pieces(self) -> list[tuple[int, int]]:
        """(source, number within it) of all pieces."""
        return [(s, p) for s, readers in enumerate(self._readers) for p in range(len(readers))]

    def _outline(self, source: int, piece: int) -> Path:
        key = hashlib.sha256(f"{self.fingerprints[source]} {FORMAT}".encode()).hexdigest()[:16]
        return Path(self.cache) / "outlines" / key / f"{piece:05d}.npy"

    def make_outline(self, source: int, piece: int) -> None:
        """Reads a piece once; nothing to do where its outline is there already."""
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
        """`outline.arrange` of this store, memory-mapped; from all outlines if it is not there.

        Raises UserError where the split has no document.
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
            if not ends[-1]:  # nothing in it: reading it says why
                next(sources.read(source, "document"), None)
        if not arrangement["bytes"].sum():
            chosen = self.corpus if self.only is None else (self.corpus[self.only],)
            copies = int(arrangement["duplicates"])
            raise UserError(
                f"no text in the {self.split} split of {', '.join(s.name for s in chosen)} "
                f"({len(arrangement['index'])} documents; {copies} more are copies of earlier "
                f"ones; data.held_out_percent={self.held_out_percent}). A document is a line "
                "of a .jsonl, a record of a .csv, or of a .txt what the source's document says"
            )

    # -- blocks -----------------------------------------------------------------------------

    def block_count(self) -> int:
        """Blocks of the store; all outlines must be there."""
        return len(self.arrangement["bytes"])

    def missing(self) -> list[int]:
        """Which blocks are not there."""
        there = set(os.listdir(self.path))
        return [number for number in range(self.block_count()) if _name(number) not in there]

    def make_blocks(self, wanted: Iterable[int]) -> Iterator[dict[str, int]]:
        """Tokenises blocks, those that are not there yet, and yields the counts of each.

        Blocks in order are made from files that are read once.
        """
        texts = outline.Texts(self._readers, self.arrangement["pieces"])
        for number in wanted:
            yield self.block(number, texts).counts

    def block(self, number: int, texts: outline.Texts | None = None) -> Block:
        """A block; made now if it is not there, and again, with a line, if it is damaged."""
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
        """Counts the blocks, which are all there, and marks the store as whole."""
        arrangement = self.arrangement
        each = [self.block(number).counts for number in range(len(arrangement["bytes"]))]
        counts = {name: sum(c[name] for c in each) for name in each[0]}
        counts |= {"bytes": int(arrangement["bytes"].sum()), "blocks": len(each)}
        counts |= {"duplicates": int(arrangement["duplicates"])}
        checksums.save(self._done, lambda part: part.write_text(json.dumps(counts)))
        # Of processes that were killed. Others may be at work on the same blocks, with young ones;
        # ages are told by the clock of the disk, which is not that of each host.
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
        """The store if it is whole."""
        if not self._done.exists() or self.missing():
            return None
        checksums.mend(self._done, self.mark_whole, self._miscounted)
        return Store(self.path, self.key, json.loads(self._done.read_text()), self)

    def _miscounted(self) -> str:
        """What cannot be right in done.json."""
        counts, arrangement = json.loads(self._done.read_text()), self.arrangement
        there = (counts["blocks"], counts["bytes"], counts["duplicates"])
        sizes = arrangement["bytes"]
        right = (len(sizes), int(sizes.sum()), int(arrangement["duplicates"]))
        return "" if there == right else f"it says {there}, and the arrangement {right}"

    def build(self, quiet: bool = False) -> Store:
        """The store from the cache, or made now.

        Raises UserError where the split has no document, and where a store that is made in shards
        is not whole.
        """
        store = self.opened()
        if store is None:
            self.refuse_part()
            self.make(quiet=quiet)
            store = self.opened()
        return store

    def make(self, shard: int = 0, shards: int = 1, quiet: bool = False) -> list[int]:
        """Makes the blocks with number = shard (mod shards) that are missing.

        The processes of several shards share the outlines; each makes those that it finds missing,
        its own first, so that none waits for another.

        Returns the blocks that are missing then; with none left the store is whole. Raises
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
        """Raises UserError where blocks are missing that others are to make."""
        shards = self.path / "shards"
        if not shards.exists():
            return
        text = shards.read_text(errors="replace")
        n = int(text) if text.isdecimal() else 1
        how = "python launch.py data --config=… --shard=I/N (with the same --config.KEY=VALUE)"
        if not self._done.exists() and not (self.path / "arrangement").is_dir():
            raise UserError(
                f"the store of {self.name} is being made in {n} shards and has no block yet "
                f"({self.path}); they are made by {how}, for each I from 0 to {n - 1} and N={n}"
            )
        missing = self.missing()
        if missing:
            needed = _few([f"{i}/{n}" for i in sorted({number % n for number in missing})])
            raise UserError(
                f"the store of {self.name} lacks {len(missing)} blocks in {self.path}: "
                f"{_few(missing)}; they are made by {how}, for I/N = {needed}; 0/1 makes them all"
            )


def build(
    corpus: tuple[SourceConfig, ...],
    split: str,
    held_out_percent: float,
    tokenizer: Tokenizer,
    cache: str,
    quiet: bool = False,
) -> Store:
    """The store of a corpus's split, as `Job.build`."""
    return Job(corpus, split, held_out_percent, tokenizer, cache).build(quiet)


def _name(index: int) -> str:
    return f"block_{index:05d}"


def _few(items: list) -> str:
    shown = ", ".join(map(str, items[:SHOWN]))
    return f"{shown}, …" if len(items) > SHOWN else shown


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRANGED}

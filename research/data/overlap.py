"""Finds consecutive words that two texts share: to clean a corpus, and to measure how much of a
held-out split was in it.

Words are runs of letters and digits, in lower case. Overlap is counted in 8-grams of words (Radford
et al. 2019, section 4, who report the percentage of a set's 8-grams in the training text). A corpus
leaves out documents that share 13 consecutive words (Brown et al. 2020, appendix C), since 8 words
may match by chance, in formulas and names. Only hashes of the held-out texts are kept in memory;
corpora are streamed.

    G 8-grams of the held-out texts, each once    M 8-grams of one text, in order
"""

import array
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int, UInt64

WORDS = 8  # of a gram
COPY = 13  # consecutive words that make a copy
RULE = f"{COPY} words on end"  # a part of sources' fingerprints: do not change
WARNED = 0.5  # percent of held-out examples with a shared gram, above which there is a warning
_WORD = re.compile(r"[^\W_]+")
_BLANKS = {code: code if chr(code).isalnum() else " " for code in range(128)}
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word is lost in products modulo 2^64


def words(text: str) -> list[str]:
    """Splits a text into the words that are compared."""
    lower = text.lower()
    if lower.isascii():  # the same, five times as fast
        return lower.translate(_BLANKS).split()
    return _WORD.findall(lower)


@dataclasses.dataclass(frozen=True)
class Grams:
    """The 8-grams of some texts.

    ids: a hash of each word; hashes: of each gram, sorted; runs: how many consecutive grams make a
    copy of a text with this gram: those of COPY words, or all of a shorter text.
    """

    ids: dict[str, int]
    hashes: UInt64[np.ndarray, " G"]
    runs: Int[np.ndarray, " G"]

    @staticmethod
    def of(texts: Iterable[str]) -> "Grams":
        """Returns the grams of texts; no gram crosses from one text into the next."""
        ids: dict[str, int] = {}
        flat, sizes = array.array("Q"), []
        for text in texts:
            listed = words(text)
            for word in listed:
                if word not in ids:
                    digest = hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest()
                    ids[word] = int.from_bytes(digest) or 1
            flat.extend(map(ids.__getitem__, listed))
            flat.append(0)
            sizes.append(len(listed) + 1)
        hashes, whole = _hashed(np.array(flat, np.uint64))
        needed = np.repeat(np.clip(np.array(sizes, int) - WORDS, 0, COPY - WORDS + 1), sizes)
        hashes, needed = hashes[whole], needed[: len(hashes)][whole]
        order = np.lexsort((needed, hashes))  # for a gram in several texts the shortest run counts
        unique, first = np.unique(hashes[order], return_index=True)
        return Grams(ids, unique, needed[order][first])

    def places(self, text: str) -> Int[np.ndarray, " M"]:
        """Returns the index in `hashes` of each gram of a text, -1 if it is not there."""
        listed = words(text)
        known = map(self.ids.get, listed, itertools.repeat(0))
        hashes, whole = _hashed(np.fromiter(known, np.uint64, len(listed)))
        places = np.full(len(hashes), -1)
        if len(self.hashes) and whole.any():
            at = np.searchsorted(self.hashes, hashes[whole])
            at = np.minimum(at, len(self.hashes) - 1)
            places[whole] = np.where(self.hashes[at] == hashes[whole], at, -1)
        return places

    def places_of(self, texts: Iterable[str]) -> Int[np.ndarray, " M"]:
        """Returns the concatenated `places` of several texts."""
        return np.concatenate([np.zeros(0, int), *map(self.places, texts)])

    def copied(self, text: str) -> bool:
        """Returns whether a text shares COPY consecutive words with one of these texts, contains
        all of a shorter one, or is shorter itself and contained in one."""
        places = self.places(text)
        edges = np.flatnonzero(np.diff(np.concatenate([[-1], places, [-1]]) >= 0))
        return any(
            end - start >= min(len(places), self.runs[places[start:end]].min())
            for start, end in zip(edges[::2], edges[1::2], strict=True)
        )

    def seen(self, texts: Iterable[str]) -> Bool[np.ndarray, " G"]:
        """Returns which of the grams occur in these other texts."""
        seen = np.zeros(len(self.hashes), bool)
        for text in texts:
            places = self.places(text)
            seen[places[places >= 0]] = True
        return seen


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How much of some examples occurs elsewhere. short: examples with too few words for a gram;
    touched: examples with a shared gram. grams, shared: the grams of all examples."""

    examples: int
    short: int
    touched: int
    grams: int
    shared: int

    @property
    def percent(self) -> float:
        """The percentage of examples with a shared gram."""
        return 100 * self.touched / max(1, self.examples)

    def __str__(self) -> str:
        return (
            f"{self.percent:.2f} % of the examples share an {WORDS}-gram ({self.touched:,} of "
            f"{self.examples:,}; {self.short:,} are shorter), "
            f"{100 * self.shared / max(1, self.grams):.2f} % of the {WORDS}-grams are shared "
            f"({self.shared:,} of {self.grams:,})"
        )


def count(examples: Iterable[Int[np.ndarray, " M"]], seen: Bool[np.ndarray, " G"]) -> Overlap:
    """Returns the overlap of examples (their `Grams.places`) with the texts of `Grams.seen`."""
    number = short = touched = total = shared = 0
    for places in examples:
        hits = int(seen[places].sum())
        number, short, touched = number + 1, short + (not len(places)), touched + (hits > 0)
        total, shared = total + len(places), shared + hits
    return Overlap(number, short, touched, total, shared)


def _hashed(
    ids: UInt64[np.ndarray, " N"],
) -> tuple[UInt64[np.ndarray, " M"], Bool[np.ndarray, " M"]]:
    """Returns a hash of each WORDS consecutive words, modulo 2^64, and whether none is 0."""
    size = max(0, len(ids) - WORDS + 1)
    hashes, whole = np.zeros(size, np.uint64), np.ones(size, bool)
    for shift in range(WORDS):
        part = ids[shift : shift + size]
        hashes = hashes * _BASE + part
        whole &= part != 0
    return hashes, whole

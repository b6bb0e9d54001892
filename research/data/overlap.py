"""Words on end that two texts share: what a corpus leaves out, and how much of a held-out split has
been read.

Words are runs of letters and digits, in lower case. Overlap is counted in 8-grams of them (Radford
et al. 2019, section 4, who give the percentage of a set's 8-grams that the training text has). Left
out of a corpus is what shares 13 words on end (Brown et al. 2020, appendix C): 8 words meet by
chance, in formulas and names. Only hashes of the held-out texts are kept, and corpora are streamed.

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
COPY = 13  # words on end that make a copy
RULE = f"{COPY} words on end"  # what a fingerprint says of how documents are left out
WARNED = 0.5  # percent of held-out examples with a shared gram, above which it is a warning
_WORD = re.compile(r"[^\W_]+")
_BLANKS = {code: code if chr(code).isalnum() else " " for code in range(128)}
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word is lost in products modulo 2^64


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    lower = text.lower()
    if lower.isascii():  # the same, five times as fast
        return lower.translate(_BLANKS).split()
    return _WORD.findall(lower)


@dataclasses.dataclass(frozen=True)
class Grams:
    """The 8-grams of some texts.

    ids: a hash of each word; hashes: of each gram, sorted; runs: how many grams on end are a copy
    of a text that has this one: those of COPY words, or all of a shorter text.
    """

    ids: dict[str, int]
    hashes: UInt64[np.ndarray, " G"]
    runs: Int[np.ndarray, " G"]

    @staticmethod
    def of(texts: Iterable[str]) -> "Grams":
        """The grams of texts; none reaches from one text into another."""
        ids: dict[str, int] = {}
        flat, sizes = array.array("Q"), []
        for text in texts:
            there = words(text)
            for word in there:
                if word not in ids:
                    digest = hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest()
                    ids[word] = int.from_bytes(digest) or 1
            flat.extend(map(ids.__getitem__, there))
            flat.append(0)
            sizes.append(len(there) + 1)
        hashes, whole = _hashed(np.array(flat, np.uint64))
        needed = np.repeat(np.clip(np.array(sizes, int) - WORDS, 0, COPY - WORDS + 1), sizes)
        hashes, needed = hashes[whole], needed[: len(hashes)][whole]
        order = np.lexsort((needed, hashes))  # of a gram in several texts the shortest counts
        unique, first = np.unique(hashes[order], return_index=True)
        return Grams(ids, unique, needed[order][first])

    def places(self, text: str) -> Int[np.ndarray, " M"]:
        """Where in `hashes` each gram of a text stands, -1 for one that does not."""
        there = words(text)
        known = map(self.ids.get, there, itertools.repeat(0))
        hashes, whole = _hashed(np.fromiter(known, np.uint64, len(there)))
        places = np.full(len(hashes), -1)
        if len(self.hashes) and whole.any():
            at = np.searchsorted(self.hashes, hashes[whole])
            at = np.minimum(at, len(self.hashes) - 1)
            places[whole] = np.where(self.hashes[at] == hashes[whole], at, -1)
        return places

    def places_of(self, texts: Iterable[str]) -> Int[np.ndarray, " M"]:
        """`places` of several texts, one after the other."""
        return np.concatenate([np.zeros(0, int), *map(self.places, texts)])

    def copied(self, text: str) -> bool:
        """Whether a text has COPY words on end out of one of these texts; or the whole of one of
        them that is shorter; or is shorter itself and all of it stands in one."""
        places = self.places(text)
        edges = np.flatnonzero(np.diff(np.concatenate([[-1], places, [-1]]) >= 0))
        return any(
            end - start >= min(len(places), self.runs[places[start:end]].min())
            for start, end in zip(edges[::2], edges[1::2], strict=True)
        )

    def seen(self, texts: Iterable[str]) -> Bool[np.ndarray, " G"]:
        """Which of the grams stand in these other texts."""
        seen = np.zeros(len(self.hashes), bool)
        for text in texts:
            places = self.places(text)
            seen[places[places >= 0]] = True
        return seen


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How much of some examples stands elsewhere. short: examples without any gram, of fewer words;
    touched: with at least one that is shared. grams and shared: of all examples."""

    examples: int
    short: int
    touched: int
    grams: int
    shared: int

    @property
    def percent(self) -> float:
        """Of the examples, that share a gram at least."""
        return 100 * self.touched / max(1, self.examples)

    def __str__(self) -> str:
        return (
            f"{self.percent:.2f} % of the examples share an {WORDS}-gram ({self.touched:,} of "
            f"{self.examples:,}; {self.short:,} are shorter), "
            f"{100 * self.shared / max(1, self.grams):.2f} % of the {WORDS}-grams are shared "
            f"({self.shared:,} of {self.grams:,})"
        )


def count(examples: Iterable[Int[np.ndarray, " M"]], seen: Bool[np.ndarray, " G"]) -> Overlap:
    """The overlap of examples, each as its `Grams.places`, with what `Grams.seen` has looked at."""
    number = short = touched = total = shared = 0
    for places in examples:
        hits = int(seen[places].sum())
        number, short, touched = number + 1, short + (not len(places)), touched + (hits > 0)
        total, shared = total + len(places), shared + hits
    return Overlap(number, short, touched, total, shared)


def _hashed(
    ids: UInt64[np.ndarray, " N"],
) -> tuple[UInt64[np.ndarray, " M"], Bool[np.ndarray, " M"]]:
    """A hash for each WORDS words on end, modulo 2^64, and whether it has no 0 among them."""
    size = max(0, len(ids) - WORDS + 1)
    hashes, whole = np.zeros(size, np.uint64), np.ones(size, bool)
    for shift in range(WORDS):
        part = ids[shift : shift + size]
        hashes = hashes * _BASE + part
        whole &= part != 0
    return hashes, whole

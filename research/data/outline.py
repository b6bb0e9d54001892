"""Lists the documents of a corpus and assigns them to the blocks of a store.

A piece of a source (a file) is read once for its outline: size, hash and percentile of each
document. The outlines of all pieces determine the duplicates and where blocks begin, so any process
can make a block without the others.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from research.data import sources
from research.errors import UserError

# bytes: of the text in UTF-8; hash: of the text, 128 bits; percentile: decides the split.
DOCUMENT = np.dtype([("bytes", np.int64), ("hash", np.uint64, 2), ("percentile", np.float64)])


def outline(documents: Iterable[dict]) -> np.ndarray:
    """Returns the outline of a piece: its documents, dtype DOCUMENT."""
    rows = []
    for document in documents:
        text = document["text"].encode()
        digest = hashlib.blake2b(text, digest_size=16).digest()
        rows.append((len(text), np.frombuffer(digest, "<u8"), sources.percentile(document["id"])))
    return np.array(rows, DOCUMENT)


def arrange(
    outlines: Sequence[Sequence[np.ndarray]],
    split: str,
    held_out_percent: float,
    block_bytes: int,
    only: int | None = None,
) -> dict[str, np.ndarray]:
    """Orders the documents of a split, one of each source in turn, and cuts them into blocks.

    So a block has documents of all sources. Of equal documents only the first in this order stays,
    whatever its split, so none is both trained on and held out.

    Args:
        outlines: the outlines of each source's pieces.
        only: the number of the one source to keep; default: all.

    Returns: source, index [documents]: the number of each document's source, and its own in it;
    blocks [blocks + 1]: the first document of each block, and the number of documents; bytes
    [blocks]; pieces [sources, most pieces + 1]: the first document of each piece; duplicates [].
    """
    flat = [piece for source in outlines for piece in source]
    documents = np.concatenate([*flat, np.zeros(0, DOCUMENT)])
    sizes = [sum(map(len, source)) for source in outlines]
    source = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    index = np.concatenate([np.arange(size) for size in sizes])
    turn = np.lexsort((source, index))
    documents, source, index = documents[turn], source[turn], index[turn]

    duplicate = _repeated(documents["hash"]) & (documents["bytes"] > 0)
    wanted = (documents["percentile"] < held_out_percent) == (split == "validation")
    if only is not None:
        wanted &= source == only
    keep = wanted & ~duplicate

    ends = np.cumsum(documents["bytes"][keep])
    blocks = [0]
    while blocks[-1] < len(ends):
        before = ends[blocks[-1] - 1] if blocks[-1] else 0
        blocks.append(min(len(ends), int(np.searchsorted(ends, before + block_bytes)) + 1))
    most = max(map(len, outlines))
    pieces = [np.cumsum([0, *map(len, s), *[0] * (most - len(s))]) for s in outlines]
    return {
        "source": source[keep],
        "index": index[keep],
        "blocks": np.array(blocks),
        "bytes": np.diff(np.concatenate([[0], ends])[blocks]),
        "pieces": np.stack(pieces),
        "duplicates": np.array((wanted & duplicate).sum()),
    }


def fault(documents: np.ndarray) -> str:
    """Says what is wrong with an outline; "" for nothing."""
    if documents.dtype != DOCUMENT or documents.ndim != 1 or (documents["bytes"] < 0).any():
        return "it is not an outline"
    return ""


def misplaced(arrays: dict[str, np.ndarray], sources: int) -> str:
    """Says what is wrong with a result of `arrange`; "" for nothing."""
    blocks, starts, source = arrays["blocks"], arrays["pieces"], arrays["source"]
    rises = blocks[0] == 0 and (np.diff(blocks) > 0).all() and (np.diff(starts) >= 0).all()
    sizes = (len(blocks) - 1, blocks[-1], blocks[-1], sources)
    lengths = (len(arrays["bytes"]), len(source), len(arrays["index"]), len(starts))
    inside = (source < sources).all() and (arrays["index"] < starts[source, -1])
    if not rises or sizes != lengths or not np.all(inside) or (arrays["bytes"] < 0).any():
        return "its arrays do not belong together"
    return ""


def _repeated(hashes: np.ndarray) -> np.ndarray:
    """Returns which of the hashes [n, 2] repeat an earlier one."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal hashes keep their order
    repeated = np.zeros(len(hashes), bool)
    repeated[order[1:]] = (hashes[order[1:]] == hashes[order[:-1]]).all(axis=1)
    return repeated


class Texts:
    """Texts of documents by source and number; reading them in order opens each file once."""

    def __init__(
        self, readers: Sequence[Sequence[Callable[[], Iterator[dict]]]], pieces: np.ndarray
    ):
        self._readers, self._pieces = readers, pieces
        self._open: dict[int, tuple[int, int, Iterator[dict]]] = {}  # piece, next number

    def __call__(self, source: int, index: int) -> str:
        """Returns a document's text. Raises UserError if it is gone since its outline was made."""
        starts = self._pieces[source]
        piece = int(np.searchsorted(starts, index, side="right")) - 1
        was, at, documents = self._open.get(source, (-1, 0, iter(())))
        if was != piece or at > index:
            at, documents = int(starts[piece]), self._readers[source][piece]()
        document = next(itertools.islice(documents, index - at, None), None)
        if document is None:
            raise UserError(
                f"the corpus changed while it was tokenised: document {index} of source {source} "
                "is gone; start again"
            )
        self._open[source] = piece, index + 1, documents
        return document["text"]

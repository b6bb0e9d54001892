"""The tokens of a text with their offsets."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tokenizers


class Encoding(NamedTuple):
    """The tokens of one text, int32 arrays of equal length.

    `text[start:end]` is the text of a token (with the space at the beginning of a byte-level token;
    several tokens of one character share its offsets). `words` is the index of a token's word, as
    the tokenizer splits the text or in the words of `encode_words`.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray


def bytes_of(text: str, encoding: Encoding) -> np.ndarray:
    """Returns the UTF-8 bytes of each token's text, int64 [n]; their sum is that of the text. Text
    between two tokens belongs to the later one, text after the last token to the last; a character
    of several tokens belongs to the first of them.
    """
    if not len(encoding.ids):
        return np.zeros(0, np.int64)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = np.cumsum(1 + sum((codes > last).astype(np.int64) for last in (0x7F, 0x7FF, 0xFFFF)))
    sizes = np.concatenate([[0], sizes])
    ends = np.maximum.accumulate(encoding.ends)
    ends[-1] = len(text)
    return np.diff(sizes[ends], prepend=0)


def of_library(text: str, encoding: tokenizers.Encoding) -> Encoding:
    """Converts an encoding of the `tokenizers` library to arrays."""
    ids = np.array(encoding.ids, dtype=np.int32)
    offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    words = np.array(encoding.word_ids, dtype=np.int32)
    starts, ends = offsets[:, 0].copy(), offsets[:, 1].copy()
    if not text.isascii():
        _take_marks(text, starts, ends)
    return Encoding(ids, starts, ends, words)


def joined(parts: Sequence[tuple[int, Encoding]]) -> Encoding:
    """Joins the encodings of a text's pieces, each with the offset of its piece."""
    if len(parts) == 1:
        return parts[0][1]
    words, count = [], 0
    for _, part in parts:
        words.append(part.words + count)
        count = int(words[-1][-1]) + 1 if len(part.words) else count
    return Encoding(
        np.concatenate([part.ids for _, part in parts]),
        np.concatenate([part.starts + at for at, part in parts]).astype(np.int32),
        np.concatenate([part.ends + at for at, part in parts]).astype(np.int32),
        np.concatenate(words).astype(np.int32),
    )


def byte_names() -> list[str]:
    """Returns the character for each byte, 0 to 255, in a byte-level vocabulary.

    Printable bytes stand for themselves, the others for the characters from U+0100 on, in order
    (Radford et al. 2019, their encoder).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _take_marks(text: str, starts: np.ndarray, ends: np.ndarray) -> None:
    """Moves each end after the marks and joiners that follow its token but are in no token because
    a normalizer dropped them: they belong to the character before them.
    """
    limits = np.append(starts[1:], len(text))
    codes = np.frombuffer(f"{text}\0".encode("utf-32-le", "surrogatepass"), np.uint32)
    for i in np.flatnonzero((ends < limits) & (codes[ends] > 0x7F)):
        while ends[i] < limits[i] and _attached(text[ends[i]]):
            ends[i] += 1


def _attached(character: str) -> bool:
    """Returns whether it is a mark or a joiner; a zero-width space separates words."""
    kind = unicodedata.category(character)
    return kind[0] == "M" or kind == "Cf" and character != "\u200b"

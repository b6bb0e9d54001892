"""Cuts long texts into pieces that are tokenised one by one with the same result, since the library
needs some 150 bytes of memory for each byte of a text.

A piece ends at a safe border between two words. Whether a border is safe for a tokenizer is tested
on samples, since its normalizer and pre-tokenizer may be arbitrary.
"""

import functools
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import regex
import tokenizers

from research.data import encoding as encodings
from research.data.encoding import Encoding
from research.errors import UserError

SIZE = 1 << 16  # characters of a piece
MOST = 1 << 20  # characters to search for a border; without one a word is cut
TOGETHER = 1 << 19  # characters tokenised in one call
LONGEST = 1000  # longest word, in characters, for training a vocabulary
_LONG = regex.compile(
    r"[\p{L}\p{N}\p{M}]{1001,}+|[^\s\p{L}\p{N}\p{M}]{1001,}+|\s{1001,}+".replace(
        "1001", str(LONGEST + 1)
    )
)
_BLANK = r"(?<=\p{L})(?= \p{L})"  # where all tokenizers that are trained here split words
# Where a text may be cut: the letters on both sides, the text right before and right after the cut.
PLACES = (
    (r"\p{L}", "", " "),
    (r"\p{L}", "", "\n"),
    (r"\p{L}", "\n", ""),
    (r"\p{Han}", "", "。"),
    (r"\p{Han}", "。", ""),
)
_SAMPLES = {r"\p{L}": ("film", "The", "Éa", "что", "학"), r"\p{Han}": ("中", "北京", "学")}


_switch = threading.Lock()  # `encode_special_tokens` is a state of the library's tokenizer


def encode_batch(
    tokenizer: tokenizers.Tokenizer,
    texts: Sequence[str],
    where: Callable[[], Sequence[regex.Pattern]],
    parse_special: bool,
) -> list[Encoding]:
    """Returns the tokens of each text, without special tokens around them, on all cores.

    Args:
        where: returns `places`, called only for long texts.
        parse_special: whether a special token that is spelt out in a text becomes that token.
    """
    parts: list[list[tuple[int, Encoding]]] = [[] for _ in texts]
    group: list[tuple[int, int, str]] = []  # number of the text, place in it, piece

    def flush() -> None:
        with _switch:
            tokenizer.encode_special_tokens = not parse_special
            try:
                encoded = tokenizer.encode_batch([p for _, _, p in group], add_special_tokens=False)
            except Exception as error:  # the library raises nothing narrower
                raise UserError(f"the tokenizer cannot read a text: {error}") from error
        for (number, start, piece), encoding in zip(group, encoded, strict=True):
            parts[number].append((start, encodings.of_library(piece, encoding)))
        group.clear()

    size = 0
    for number, text in enumerate(texts):
        for start, end in cuts(text, where() if len(text) > SIZE else ()):
            group.append((number, start, text[start:end]))
            size += end - start
            if size >= TOGETHER:
                flush()
                size = 0
    flush()
    return list(map(encodings.joined, parts))


def places(tokenizer: tokenizers.Tokenizer) -> Sequence[regex.Pattern]:
    """Returns patterns for places to cut a tokenizer's texts, each also for reverse search."""
    patterns = []
    for letter, before, behind in PLACES:
        samples = itertools.product(_SAMPLES[letter], repeat=2)
        pairs = [(f"{one}{before}", f"{behind}{other}") for one, other in samples]
        pattern = rf"(?<={letter}{before})(?={behind}{letter})"
        if all(_parted(tokenizer, *pair) for pair in pairs) and not _in_added(tokenizer, pattern):
            patterns += [regex.compile(pattern), regex.compile(f"(?r){pattern}")]
    return patterns


def _parted(tokenizer: tokenizers.Tokenizer, left: str, right: str) -> bool:
    """Returns whether two joined texts have the words and tokens of each, at the same places."""

    def words(text: str) -> list[str]:
        text = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    def tokens(text: str, at: int = 0) -> list[tuple[int, int, int]]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        return [(number, at + start, at + end) for number, (start, end) in pairs]

    if tokenizer.pre_tokenizer is None or words(left + right) != words(left) + words(right):
        return False
    return tokens(left + right) == tokens(left) + tokens(right, len(left))


def _in_added(tokenizer: tokenizers.Tokenizer, pattern: str) -> bool:
    """Returns whether an added token, which is matched before words, may cross such a place."""
    for token in tokenizer.get_added_tokens_decoder().values():
        ends = token.content[:1] + token.content[-1:]
        if (token.lstrip or token.rstrip) and any(map(str.isalpha, ends)):
            return True
        inside = regex.finditer(pattern, f"中{token.content}中")
        if any(1 < match.start() <= len(token.content) for match in inside):
            return True
    return False


def cuts(text: str, where: Sequence[regex.Pattern]) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of the pieces of a text.

    If there is no place within MOST characters, a word is cut, with one warning.

    Args:
        where: as `places` returns them.
    """
    start = 0
    while len(text) - start > SIZE:
        end = _end(text, start, where)
        yield start, end
        start = end
    if start < len(text) or not text:
        yield start, len(text)


def _end(text: str, start: int, where: Sequence[regex.Pattern]) -> int:
    near, most = start + SIZE, start + MOST
    last = (pattern.search(text, start + 1, near) for pattern in where[1::2])
    if ends := [match.start() for match in last if match]:
        return max(ends)
    first = (pattern.search(text, near, most) for pattern in where[::2])
    if ends := [match.start() for match in first if match]:
        return min(ends)
    if len(text) > most:
        _warn(f"a text has no clear border of words within {MOST:,} characters; a word is cut")
    return min(most, len(text))


def to_learn(texts: Iterable[str]) -> list[str]:
    """Prepares texts for training a vocabulary, which takes time quadratic in a word's length and
    memory linear in a text's: cuts long texts into pieces, and words, numbers and runs of symbols
    to LONGEST characters, with a warning that counts them.
    """
    pieces, cut = [], 0

    def shorter(match: regex.Match) -> str:
        nonlocal cut
        cut += 1
        parts = range(0, 1 if match[0].isspace() else len(match[0]), LONGEST)
        return " ".join(match[0][at : at + LONGEST] for at in parts)

    blank = [regex.compile(f"{way}{_BLANK}") for way in ("", "(?r)")]
    for text in texts:
        text = _LONG.sub(shorter, text)
        pieces += [text[start:end] for start, end in cuts(text, blank)]
    if cut:
        print(
            f"warning: {cut:,} words or runs of symbols of more than {LONGEST:,} characters are "
            "cut to train the vocabulary",
            file=sys.stderr,
        )
    return pieces


@functools.cache  # prints each warning once
def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)

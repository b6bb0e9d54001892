"""Splits text into sentences, for next sentence prediction.

The splitter is sentencex (the Wikimedia Foundation's rules; a Rust extension without
dependencies): it knows abbreviations, initials and quotations, and splits millions of words a
second. It treats text between quotation marks or brackets as one sentence, and an unclosed mark
swallows pages, so a piece above `_LONG` characters is split again with its marks hidden.
"""

import re

import sentencex

_LONG = 300
_BLANK_LINE = re.compile(r"\n\s*\n")
_MARKS = "\"'“”‘’«»()[]{}"
# A run of stops matches only from its first one, or the time would be quadratic.
_AFTER_STOP = re.compile(rf"(?<![.!?…])([.!?…]++)([{re.escape(_MARKS)}]++)(?=\s|$)")
_MARK = re.compile(rf"[{re.escape(_MARKS)}]")


def split_sentences(text: str) -> list[str]:
    """Returns the sentences of a text, in order: slices of it, stripped, never empty.

    No sentence crosses a blank line. Line ends within a paragraph are kept.
    """
    pieces: list[str] = []
    for paragraph in _BLANK_LINE.split(text):
        for piece in sentencex.segment("en", paragraph):
            pieces.extend([piece] if len(piece) <= _LONG else _open_quotations(piece))
    return [stripped for piece in pieces if (stripped := piece.strip())]


def _open_quotations(piece: str) -> list[str]:
    """Splits inside quotations and brackets too.

    Each mark is replaced by one character, so that offsets do not change: marks after a full stop
    move before it ('end."' -> 'endx.'), others become a dash.
    """
    hidden = _AFTER_STOP.sub(lambda match: "x" * len(match[2]) + match[1], piece)
    hidden = _MARK.sub("-", hidden)
    parts, start = [], 0
    for part in sentencex.segment("en", hidden):
        parts.append(piece[start : start + len(part)])
        start += len(part)
    return parts

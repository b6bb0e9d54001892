"""Text into sentences, for next sentence prediction.

The splitter is sentencex (the Wikimedia Foundation's rules; a Rust extension without
dependencies): it knows abbreviations, initials and quotations, and splits millions of words a
second. It takes what stands between quotation marks or brackets as one sentence, and an
unclosed mark swallows pages: so a piece above `_LONG` characters is split once more with its
marks hidden.
"""

import re

import sentencex

_LONG = 300
_BLANK_LINE = re.compile(r"\n\s*\n")
_MARKS = "\"'“”‘’«»()[]{}"
# A row of stops is looked at from its first one alone: else its time would be quadratic.
_AFTER_STOP = re.compile(rf"(?<![.!?…])([.!?…]++)([{re.escape(_MARKS)}]++)(?=\s|$)")
_MARK = re.compile(rf"[{re.escape(_MARKS)}]")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order: slices of it, stripped, never empty.

    No sentence reaches over a blank line. A line end within a paragraph is kept as it is.
    """
    pieces: list[str] = []
    for paragraph in _BLANK_LINE.split(text):
        for piece in sentencex.segment("en", paragraph):
            pieces.extend([piece] if len(piece) <= _LONG else _open_quotations(piece))
    return [stripped for piece in pieces if (stripped := piece.strip())]


def _open_quotations(piece: str) -> list[str]:
    """Splits inside quotations and brackets too.

    The marks are replaced one character for one, so that places stay what they are: a mark
    after a full stop moves before it ('end."' -> 'endx.'), any other becomes a dash.
    """
    hidden = _AFTER_STOP.sub(lambda match: "x" * len(match[2]) + match[1], piece)
    hidden = _MARK.sub("-", hidden)
    parts, start = [], 0
    for part in sentencex.segment("en", hidden):
        parts.append(piece[start : start + len(part)])
        start += len(part)
    return parts

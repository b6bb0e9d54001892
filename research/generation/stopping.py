"""Cuts texts before stop strings, and streams a text while it is generated.

Both work on decoded text, on the host: a stop string may span tokens or lie inside one, and only
the tokenizer knows how tokens become text (merged bytes, dropped blanks).
"""

import re
from collections.abc import Callable, Sequence

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


def unescape(text: str) -> str:
    r"""Replaces `\n`, `\t` and `\\` by their characters; a shell passes them on unchanged."""
    return re.sub(r"\\([nt\\])", lambda match: _ESCAPES[match[1]], text)


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string; the whole text if there is none."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def settled(text: str, stop: Sequence[str] = ()) -> str:
    """The part of an unfinished text that later tokens cannot change.

    It excludes an end that may become a stop string, and replacement characters at the end, which
    decoding gives for the first bytes of a character whose other bytes are still to come.
    """
    text = text.rstrip("\N{REPLACEMENT CHARACTER}")
    # The beginning of a stop string may lie before a complete one.
    return text[: min([len(cut(text, stop)), *(len(text) - _begun(text, s) for s in stop)])]


def _begun(text: str, stop: str) -> int:
    """Number of characters at the end of the text that may be the beginning of a stop string."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


class Stream:
    """Writes a growing text, each part once and as soon as it is settled."""

    def __init__(self, write: Callable[[str], object], stop: Sequence[str] = ()):
        self._write, self._stop, self._shown = write, stop, ""

    def update(self, text: str) -> None:
        """Writes the settled part of the text so far, unless the part already shown has changed."""
        self._show(settled(text, self._stop))

    def finish(self, text: str) -> None:
        """Writes the rest of the text, or all of it on a new line if a part shown has changed.

        Some decoders (WordPiece's) join pieces that were apart once the next token is known.
        """
        text = cut(text, self._stop)
        if not text.startswith(self._shown):
            self._write("\n")
            self._shown = ""
        self._show(text)

    def _show(self, text: str) -> None:
        if len(text) > len(self._shown) and text.startswith(self._shown):
            self._write(text[len(self._shown) :])
            self._shown = text

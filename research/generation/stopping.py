"""Text that ends before a stop string, and text that appears while it is made.

Both look at decoded text, on the host: a stop string may lie across tokens or inside one, and how
tokens become text (merged bytes, dropped blanks) only the tokenizer knows.
"""

import re
from collections.abc import Callable, Sequence

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


def unescape(text: str) -> str:
    r"""`\n`, `\t` and `\\` as the characters they stand for; a shell hands them on as they are."""
    return re.sub(r"\\([nt\\])", lambda match: _ESCAPES[match[1]], text)


def cut(text: str, stop: Sequence[str]) -> str:
    """What comes before the first of the stop strings; all of it where there is none."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def settled(text: str, stop: Sequence[str] = ()) -> str:
    """The part of an unfinished text that what comes later cannot change.

    Left out are the end that may become a stop string, and the replacement characters there:
    decoding gives them for the first bytes of a character whose other bytes are still to come.
    """
    text = text.rstrip("\N{REPLACEMENT CHARACTER}")
    # One that has only begun may lie before one that is whole.
    return text[: min([len(cut(text, stop)), *(len(text) - _begun(text, s) for s in stop)])]


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text may be the beginning of a stop string."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


class Stream:
    """Writes a text that grows, each part of it once and as soon as it is settled."""

    def __init__(self, write: Callable[[str], object], stop: Sequence[str] = ()):
        self._write, self._stop, self._shown = write, stop, ""

    def update(self, text: str) -> None:
        """The text so far. One that no longer begins as it did is not shown before the end."""
        self._show(settled(text, self._stop))

    def finish(self, text: str) -> None:
        """The whole text; after a part that turned out otherwise it begins anew on its own line.

        Some decoders (WordPiece's) join what they had kept apart once the next token is known.
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

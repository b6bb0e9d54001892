"""Splits raw text of any script into words, by the borders of UAX #29 with the joins of English.

A word is a run of letters and digits, joined inside by - . ' ’ and the like, or one other symbol.
Unlike in UAX #29 hyphens join ("state-of-the-art"), commas and colons do not. Marks, joiners,
variation selectors and other format characters stay with the character before them; an emoji is
one word, however many characters it has.

Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces between words. There a word is a
piece of the tokenizer or, without a tokenizer, one character with its marks.
"""

import regex

from research.data.tokenizer import Tokenizer

_MARK = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"
_BLANKLESS = r"[[\p{L}\p{N}]&&[\p{lb=SA}\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}]]"
_LETTERS = rf"(?:[[\p{{L}}\p{{N}}\p{{GCB=Prepend}}_]--{_BLANKLESS}]{_MARK}*+)++"
_HEBREW = r"\p{WB=Hebrew_Letter}"  # the double quote of their acronyms joins them
_JOIN = rf"(?:[\-.'’·״׳]|(?<={_HEBREW}{_MARK}*)\"(?={_HEBREW})){_MARK}*"
_WORD = regex.compile(
    rf"(?P<blankless>(?:{_BLANKLESS}{_MARK}*+)++)"
    rf"|{_LETTERS}(?:{_JOIN}{_LETTERS})*"
    rf"|(?![\s\p{{Cc}}\p{{Cf}}])\X{_MARK}*",
    regex.V1,
)
_CHARACTER = regex.compile(r"\X")  # with its marks: an extended grapheme cluster


def split(text: str, tokenizer: Tokenizer | None = None) -> list[tuple[int, int]]:
    """Returns (start, end) of a raw text's words, without spaces and control characters."""
    words: list[tuple[int, int]] = []
    borders: set[int] | None = None
    for match in _WORD.finditer(text):
        if match["blankless"] is None:
            words.append(match.span())
            continue
        starts = [one.start() for one in _CHARACTER.finditer(text, *match.span())]
        if tokenizer is not None:
            borders = _borders(text, tokenizer) if borders is None else borders
            starts = [match.start(), *(start for start in starts[1:] if start in borders)]
        words += zip(starts, [*starts[1:], match.end()], strict=True)
    return words


def _borders(text: str, tokenizer: Tokenizer) -> set[int]:
    """Returns where pieces begin; unknown ones can be cut at any character."""
    pieces = tokenizer.encode(text)
    borders = set(pieces.starts.tolist())
    for number, start, end in zip(pieces.ids, pieces.starts, pieces.ends, strict=True):
        if number == tokenizer.unk:
            borders.update(range(start, end))
    return borders

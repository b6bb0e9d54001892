"""Reads CoNLL columns: one word per line with its tags, a blank line after each sentence."""

import itertools
import re
from collections.abc import Iterator, Sequence

from research.data.lines import Lines
from research.data.row import Row

# The ten columns of CoNLL-U and CoNLL-X; the first counts the words.
COUNTED = "ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC".split()
# B, I, O with and without a type, and the other prefixes of BIOES, BILOU and BMEWO.
_TAG = re.compile(r"O|[BIES]|[BIESLUMW]-.+")


def starts(line: str) -> bool:
    """Returns whether a file that begins with this line has columns, whatever its ending."""
    return line.startswith("-DOCSTART-")


def rows(lines: Lines) -> Iterator[Row]:
    """Yields a row per sentence: tokens, tags (BIO), and each column by its number, from "1".

    Words are in the first column, or in the second if the first counts them; tags are in the last.
    The ten columns of CoNLL-U have their own names, and none is `tags` by default. Tags in IOB1,
    BIOES, IOBES and BILOU become BIO.
    """
    counted: bool | None = None
    wide = 0  # columns of the sentence before
    for sentence in _sentences(lines):
        table = _table(sentence, wide)
        if not table:
            continue
        wide = len(table[0][1])
        wrong = next((number for number, cells in table if len(cells) != wide), None)
        if wrong is not None:
            first = f"that of the sentence's first line, {wide} in line {table[0][0]}"
            lines.malformed(lines.error(wrong, f"its number of columns is not {first}"))
            continue
        columns = list(zip(*(cells for _, cells in table), strict=True))
        if counted is None:
            counted = len(columns) > 2 and _counts(columns[0])
        if counted and wide < 2:
            where = "earlier sentences have their words in the second column, after their numbers"
            lines.malformed(lines.error(table[0][0], f"one column, but {where}"))
            continue
        if counted:  # words of several parts (1-2) and words that are not in the text (8.1)
            kept = [place for place, mark in enumerate(columns[0]) if mark.isdecimal()]
            columns = [[column[place] for place in kept] for column in columns]
        yield _row(lines, table[0][0], [list(column) for column in columns], counted)


def _row(lines: Lines, number: int, columns: list[list[str]], counted: bool) -> Row:
    words, last = (2, len(columns)) if counted else (1, len(columns))
    names = [str(place) for place in range(1, last + 1)]
    if counted and last == len(COUNTED):
        names = COUNTED
    named = {name: bio(column) for name, column in zip(names, columns, strict=True)}
    read_as = f"CoNLL columns, words in {names[words - 1]}"
    fields = {"tokens": columns[words - 1]} | named
    if last > words and names is not COUNTED:
        fields["tags"] = named[names[-1]]
        read_as += f", tags in {names[-1]}"
    return Row(lines.where(number), lines.id(number), fields, read_as=read_as)


def bio(tags: Sequence[str]) -> list[str]:
    """Converts a sentence's tags to BIO; tags that do not mark entities stay as they are.

    IOB1 has B- only between two entities of one type, so an I- after another type, or after O,
    begins one. E-, L- and M- continue an open entity; S-, U- and W- are an entity of one word.
    """
    if not all(map(_TAG.fullmatch, tags)):
        return list(tags)
    as_bio, inside = [], None  # the type of the entity that is open
    for tag in tags:
        place, kind = tag[0], tag[1:]
        if place == "O":
            as_bio.append(tag)
            inside = None
            continue
        as_bio.append(("I" if place in "IELM" and kind == inside else "B") + kind)
        inside = kind
    return as_bio


def _sentences(lines: Lines) -> Iterator[list[tuple[int, str]]]:
    """Yields the lines of each sentence, without blank lines and those between documents."""
    sentence: list[tuple[int, str]] = []
    for number, line in lines:
        line = line.removesuffix("\n")
        if line.strip(" \t") and not line.startswith("-DOCSTART-"):
            sentence.append((number, line))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _table(sentence: list[tuple[int, str]], wide: int) -> list[tuple[int, list[str]]]:
    """Returns (line, cells) of each word, without the comments (#) before the first word.

    Tabs separate the cells if the sentence has one, else spaces. A line that begins with # is a
    word if it has as many cells as the others (`wide`, if there are none) and, with spaces, a tag
    at its end.
    """
    others = [line for _, line in sentence if not line.startswith("#")]
    tabs = any("\t" in line for line in others or [sentence[-1][1]])

    def cells(line: str) -> list[str]:
        return line.rstrip(" \t").split("\t") if tabs else re.split("[ \t]+", line.strip(" \t"))

    wide = len(cells(others[0])) if others else wide

    def is_comment(word: tuple[int, list[str]]) -> bool:
        _, row = word
        as_others = len(row) == wide and (tabs or _TAG.fullmatch(row[-1]))
        return row[0].startswith("#") and not as_others

    table = [(number, cells(line)) for number, line in sentence]
    return list(itertools.dropwhile(is_comment, table))


def _counts(column: Sequence[str]) -> bool:
    """Returns whether a column counts words from 1."""
    marks = [mark for mark in column if mark.isdecimal()]
    return bool(marks) and marks == [str(place) for place in range(1, len(marks) + 1)]

"""Rows out of CoNLL columns: a word a line with its tags, a blank line after each sentence."""

import itertools
import re
from collections.abc import Iterator, Sequence

from research.data.lines import Lines
from research.data.row import Row

# The ten columns of CoNLL-U and CoNLL-X, whose first one counts the words.
COUNTED = "ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC".split()
# B, I, O with and without a type, and what BIOES, BILOU and BMEWO call their other places.
_TAG = re.compile(r"O|[BIES]|[BIESLUMW]-.+")


def starts(line: str) -> bool:
    """Whether a file that begins with this line is in columns, whatever its ending is."""
    return line.startswith("-DOCSTART-")


def rows(lines: Lines) -> Iterator[Row]:
    """A row a sentence: tokens, tags (BIO), and each column by its number, from "1".

    Words stand in the first column, or in the second where the first one counts them; tags in the
    last. In the ten columns of CoNLL-U, called by their names, no column is the tags by itself.
    Tags in IOB1, BIOES, IOBES and BILOU become BIO.
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
            where = (
                "the words of the sentences before stand in the second one, behind their numbers"
            )
            lines.malformed(lines.error(table[0][0], f"one column, where {where}"))
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
    """A sentence's tags as BIO; those that do not mark the places of entities stay as they are.

    In IOB1 B- is only between two entities of one type, so an I- after another type, or after
    nothing, begins one. E-, L- and M- go on where one is open; S-, U- and W- are one word.
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
    """The lines of each sentence, without blank ones and those between documents."""
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
    """(line, cells) of each word, without comments, which begin with # before the first word.

    Cells are parted by tabs if the sentence has one, or else by blanks. A line that begins with #
    is a word if it has as many cells as the others (`wide`, where there are none), and between
    blanks a tag at its end.
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
    """Whether a column counts words from 1."""
    marks = [mark for mark in column if mark.isdecimal()]
    return bool(marks) and marks == [str(place) for place in range(1, len(marks) + 1)]

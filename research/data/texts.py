"""Reads rows from a .txt: a document is a line, a paragraph, the file, or a part of it."""

from collections.abc import Iterator

from research.data.lines import Lines
from research.data.row import Row

DOCUMENTS = ("line", "paragraph", "file")
# Documents that few texts are cut into: a hold-out of 2 % gets none of 500 only 1 in 24,000 times.
PARTS = 500


def rows(lines: Lines) -> Iterator[Row]:
    """Yields the documents of a text, as `lines.document` says.

    A number cuts the text at blank lines (at line ends, if it has none) into about that many parts.
    """
    if lines.document == "line":
        for number, line in lines:
            if line.strip():
                text = line.removesuffix("\n")
                yield Row(lines.where(number), lines.id(number), {"text": text})
    elif lines.document == "file":
        text = "".join(line for _, line in lines)
        if text.strip():
            yield Row(str(lines.path), _stem(lines.name), _titled(lines, text))
    else:
        blocks = _paragraphs(lines)
        read_as = "a text whose paragraphs are documents"
        if lines.document != "paragraph":
            blocks, read_as = _parts(lines, int(lines.document))
        for number, text in blocks:
            place = f"{_stem(lines.name)}:{number}"
            yield Row(lines.where(number), place, _titled(lines, text), read_as=read_as)


def _parts(lines: Lines, count: int) -> tuple[Iterator[tuple[int, str]], str]:
    """Returns (first line, text) of about `count` parts of equal size, and their description."""
    blocks, between, at = list(_paragraphs(lines)), "\n\n", "blank lines"
    if len(blocks) == 1:
        blocks, between, at = [(n, line.strip("\n")) for n, line in lines if line.strip()], "\n", ""
    least = sum(len(text) for _, text in blocks) / count
    return _joined(blocks, least, between), f"a text cut at {at or 'line ends'} into documents"


def _joined(blocks: list[tuple[int, str]], least: float, between: str) -> Iterator[tuple[int, str]]:
    """Joins successive blocks until they have `least` characters."""
    part: list[tuple[int, str]] = []
    for block in blocks:
        part.append(block)
        if sum(len(text) for _, text in part) >= least:
            yield part[0][0], between.join(text for _, text in part)
            part = []
    if part:
        yield part[0][0], between.join(text for _, text in part)


def _paragraphs(lines: Lines) -> Iterator[tuple[int, str]]:
    """Yields (first line, text) of the paragraphs between blank lines."""
    first, block = 0, ""
    for number, line in lines:
        if line.strip():
            first, block = first if block else number, block + line
        elif block:
            yield first, block.removesuffix("\n")
            block = ""
    if block:
        yield first, block.removesuffix("\n")


def _titled(lines: Lines, text: str) -> dict:
    return {"title": _stem(lines.path.name), "text": text}


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".txt")

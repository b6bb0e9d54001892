"""Reads GLUE's tables as distributed (Wang et al. 2018): tabs, without quoting."""

import itertools
from collections.abc import Iterator

from research.data.lines import Lines
from research.data.row import Row
from research.data.tables import unquoted_records

# The names of each task's labels 0 and 1, as in TFDS; other tasks write their labels out.
LABELS: dict[str, tuple[str, ...]] = {
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "qqp": ("not_duplicate", "duplicate"),
    "stsb": (),
    "mnli": (),
    "qnli": (),
    "rte": (),
    "wnli": ("not_entailment", "entailment"),
}
_COLA = ["source", "label", "mark", "sentence"]  # its training and development files have no header
_PAIRS = (
    ("sentence1", "sentence2"),
    ("#1 String", "#2 String"),
    ("question1", "question2"),
    ("question", "sentence"),
)
_LABEL = ("gold_label", "label", "is_duplicate", "Quality", "score")
_OTHERS = """index id qid1 qid2 promptID pairID captionID genre filename year old_index source1
    source2 label1 label2 label3 label4 label5 sentence1_binary_parse sentence2_binary_parse
    sentence1_parse sentence2_parse""".split()
_COLUMNS = {"#1 ID", "#2 ID", "sentence", *_LABEL, *_OTHERS, *(name for p in _PAIRS for name in p)}


def starts(line: str) -> bool:
    """Returns whether a file that begins with this line is one of GLUE's."""
    cells = line.removesuffix("\n").split("\t")
    return _is_cola(cells) or (len(cells) > 1 and set(cells) <= _COLUMNS and bool(_texts(cells)))


def rows(lines: Lines, labels: tuple[str, ...] = ()) -> Iterator[Row]:
    """Yields the rows of a file: text or text_a and text_b, label, and its own columns.

    Args:
        labels: the names of the labels 0, 1, …; by default labels stay as they are.
    """
    records = unquoted_records(lines)
    first = next(records, (1, []))
    header = first[1]
    if _is_cola(header):
        records, header = itertools.chain([first], records), _COLA
    ours = dict(zip(_texts(header), ("text_a", "text_b"), strict=False))
    ours = ours if len(ours) == 2 else {"sentence": "text"}
    ours |= {next((name for name in _LABEL if name in header), "label"): "label"}
    called = {str(number): name for number, name in enumerate(labels)}
    for number, cells in records:
        fields = dict(zip(header, cells, strict=False))
        left_out = ""
        for column, name in ours.items():
            if column in fields:
                fields[name] = fields[column]
            elif column in header:
                left_out = left_out or f"a row that ends before its column {column!r}"
        if fields.get("label") == "-":
            left_out = "a pair on whose label the annotators did not agree ('-')"
        if "label" in fields:
            fields["label"] = called.get(fields["label"], fields["label"])
        yield Row(lines.where(number), lines.id(number), fields, left_out)


def _is_cola(cells: list[str]) -> bool:
    return len(cells) == 4 and cells[1] in ("0", "1") and cells[2] in ("", "*")


def _texts(header: list[str]) -> tuple[str, ...]:
    """Returns the columns of the texts."""
    pair = next((pair for pair in _PAIRS if set(pair) <= set(header)), ())
    return pair or (("sentence",) if "sentence" in header else ())

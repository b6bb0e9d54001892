"""The tables of GLUE as they are distributed (Wang et al. 2018): tabs, and no quoting."""

import itertools
from collections.abc import Iterator

from research.data.lines import Lines
from research.data.row import Row
from research.data.tables import unquoted_records

# What each task's 0 and 1 mean, by the names that TFDS has; other labels are written out.
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
    """Whether a file that begins with this line is one of GLUE's."""
    cells = line.removesuffix("\n").split("\t")
    return _is_cola(cells) or (len(cells) > 1 and set(cells) <= _COLUMNS and bool(_texts(cells)))


def rows(lines: Lines, labels: tuple[str, ...] = ()) -> Iterator[Row]:
    """The rows of a file: text or text_a and text_b, label, and its own columns.

    Args:
        labels: what the labels 0, 1, … are called; by default as they stand.
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
        for theirs, name in ours.items():
            if theirs in fields:
                fields[name] = fields[theirs]
            elif theirs in header:
                left_out = left_out or f"a row that ends before its column {theirs!r}"
        if fields.get("label") == "-":
            left_out = "a pair on whose label the annotators did not agree ('-')"
        if "label" in fields:
            fields["label"] = called.get(fields["label"], fields["label"])
        yield Row(lines.where(number), lines.id(number), fields, left_out)


def _is_cola(cells: list[str]) -> bool:
    return len(cells) == 4 and cells[1] in ("0", "1") and cells[2] in ("", "*")


def _texts(header: list[str]) -> tuple[str, ...]:
    """The columns of the texts."""
    pair = next((pair for pair in _PAIRS if set(pair) <= set(header)), ())
    return pair or (("sentence",) if "sentence" in header else ())

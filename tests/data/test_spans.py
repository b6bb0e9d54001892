import json

import pytest

from research.data import files, sources
from research.data.left_out import LeftOut
from research.data.sources import SourceConfig
from research.errors import UserError

TEXT = "Ada King lives in Rome."
WORDS = ["Ada", "King", "lives", "in", "Rome", "."]
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
SPANS = [[0, 8, "PER"], [18, 22, "LOC"]]
DICTS = [{"start": 0, "end": 8, "label": "PER"}, {"start": 18, "end": 22, "label": "LOC"}]


def value(start, end, label, text=None):
    said = {} if text is None else {"text": text}
    return {"start": start, "end": end, "labels": [label], **said}


def task(*annotations, text=TEXT, **data):
    """Returns a task of Label Studio with the values of each annotation."""
    done = [
        {
            "was_cancelled": False,
            "result": [
                {"type": "choices", "value": {"choices": ["formal"]}},
                *({"type": "labels", "from_name": "label", "value": v} for v in values),
            ],
        }
        for values in annotations
    ]
    return {"id": 7, "data": {"text": text, **data}, "annotations": done, "predictions": []}


WHOLE = [value(0, 8, "PER", "Ada King"), value(18, 22, "LOC", "Rome")]
OFFSETS = [
    {"id": i, "label": c, "start_offset": a, "end_offset": b} for i, (a, b, c) in enumerate(SPANS)
]
FORMS = {
    "doccano": {"id": 1, "text": TEXT, "label": SPANS, "Comments": []},
    "doccano before": {"id": 1, "text": TEXT, "labels": SPANS, "meta": {}},
    "doccano with relations": {"id": 1, "text": TEXT, "entities": OFFSETS, "relations": []},
    "spacy": [TEXT, {"entities": SPANS}],
    "prodigy": {"text": TEXT, "spans": DICTS, "tokens": [{"text": "Ada"}], "answer": "accept"},
    "label studio": task(WHOLE),
    "label studio, of two who agree": task(WHOLE, WHOLE[::-1]),
    "label studio, in short": {"id": 1, "text": TEXT, "label": WHOLE, "annotator": 1},
}


def write(path, *objects):
    path.write_text(
        "".join(f"{json.dumps(o)}\n" for o in objects)
        if path.suffix == ".jsonl"
        else json.dumps(list(objects))
    )
    return path


def rows(path):
    return list(files.rows([path], kind="tokens"))


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
@pytest.mark.parametrize("form", FORMS)
def test_words_and_tags_of_each_form(form, ending, tmp_path):
    path = write(tmp_path / f"x{ending}", FORMS[form], FORMS[form])
    examples = list(sources.read(SourceConfig(f"files:{path}"), "tokens"))
    assert [(e["tokens"], e["tags"]) for e in examples] == [(WORDS, TAGS)] * 2


def test_pairs_of_one_object_and_cells_of_a_table(tmp_path):
    pairs = [[TEXT, {"entities": SPANS}], None, ["Rain.", {"entities": []}]]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"classes": ["PER", "LOC"], "annotations": pairs}))
    assert [(row.fields.get("tags"), row.left_out) for row in rows(path)] == [
        (TAGS, ""),
        (None, "not annotated"),
        (["O", "O"], ""),
    ]
    table = tmp_path / "x.csv"
    cell = json.dumps(WHOLE).replace('"', '""')
    table.write_text(f'id,text,label\n1,{TEXT},"{cell}"\n')
    assert rows(table)[0].fields["tags"] == TAGS


@pytest.mark.parametrize(
    "spans, reason",
    [
        ([[0, 5, "PER"]], "does not begin and end with a word: 'Ada K', PER, characters 0 to 5"),
        ([[1, 3, "PER"]], "does not begin and end with a word: 'da', PER, characters 1 to 3"),
        ([[3, 4, "PER"]], "does not begin and end with a word: ' ', PER"),
        ([[5, 5, "PER"]], "does not begin and end with a word: '', PER"),
        ([[0, 8, "PER"], [4, 8, "LOC"]], "overlaps another one: 'King', LOC, characters 4 to 8"),
        ([[0, 8, "PER"], [0, 8, "LOC"]], "overlaps another one"),
    ],
)
def test_spans_that_are_not_words_are_left_out_and_named(spans, reason, tmp_path):
    right = {"text": TEXT, "entities": SPANS}
    path = write(tmp_path / "x.jsonl", right, {"text": TEXT, "entities": spans})
    used, left = rows(path)
    assert used.fields["tags"] == TAGS and not used.left_out
    assert reason in left.left_out and left.where == f"{path}, line 2"


def test_rows_left_out_are_counted_by_the_reason_and_named(tmp_path):
    wrong = [{"text": TEXT, "label": [[0, 5, "PER"]]}] * 25
    path = write(tmp_path / "x.jsonl", {"text": TEXT, "label": SPANS}, *wrong)
    left_out = LeftOut()
    placed = sources.placed(SourceConfig(f"files:{path}"), "tokens", left_out=left_out)
    assert len(list(placed)) == 1
    lines = left_out.lines()
    assert lines[0] == "left out: 25 rows, a span that does not begin and end with a word"
    assert lines[1] == f"  {path}, line 2: 'Ada K', PER, characters 0 to 5"
    assert len(lines) == 22 and lines[-1] == "  and 5 more"


def test_blanks_at_the_ends_of_a_span_change_no_word(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": TEXT, "label": [[0, 9, "PER"], [17, 22, "LOC"]]})
    assert rows(path)[0].fields["tags"] == TAGS


@pytest.mark.parametrize("span", [[0, 24, "LOC"], [-3, 3, "LOC"], [5, 3, "LOC"], [0, 3.5, "LOC"]])
def test_a_span_outside_its_text_is_an_error(span, tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": TEXT, "label": []}, {"text": TEXT, "label": [span]})
    with pytest.raises(UserError, match=r"x.jsonl, line 2: (the span .* outside|expected a span)"):
        rows(path)


def test_places_that_a_browser_has_counted(tmp_path):
    """Label Studio counts UTF-16 units: an emoji is two."""
    text = "💩 Ada 👍🏽 lives in Rome."
    spans = [value(3, 6, "PER", "Ada"), value(21, 25, "LOC", "Rome")]
    unsure = [value(3, 6, "PER"), value(21, 25, "LOC")]
    wrong = [value(3, 6, "PER", "Eve")]
    path = write(
        tmp_path / "x.json", *(task(values, text=text) for values in (spans, unsure, wrong))
    )
    right, unknown, other = rows(path)
    assert right.fields["tokens"] == ["💩", "Ada", "👍🏽", "lives", "in", "Rome", "."]
    assert right.fields["tags"] == ["O", "B-PER", "O", "O", "O", "B-LOC", "O"]
    assert "emoji" in unknown.left_out
    assert "differs from its own text: 'da ', not 'Eve'" in other.left_out


def test_what_nobody_annotated_or_two_annotated_otherwise_is_left_out(tmp_path):
    skipped = task(WHOLE)
    skipped["annotations"][0]["was_cancelled"] = True
    rejected = FORMS["prodigy"] | {"answer": "reject"}
    path = write(tmp_path / "x.json", task(), skipped, task(WHOLE, WHOLE[:1]))
    assert [row.left_out for row in rows(path)] == ["not annotated"] * 2 + [
        "its 2 annotations differ"
    ]
    (row,) = rows(write(tmp_path / "y.jsonl", rejected))
    assert row.left_out == "its answer is 'reject'"
    two = task(WHOLE)
    two["data"] = {"title": "One", "body": TEXT}
    with pytest.raises(UserError, match="object 1: which text of 'data'.*title, body"):
        rows(write(tmp_path / "z.json", two))


def test_scripts_without_blanks_go_by_characters(tmp_path):
    path = write(
        tmp_path / "x.jsonl", {"text": "王小明住在北京。", "label": [[0, 3, "人"], [5, 7, "地"]]}
    )
    (row,) = rows(path)
    assert row.fields["tags"] == ["B-人", "I-人", "I-人", "O", "O", "B-地", "I-地", "O"]


def test_a_corpus_with_annotations_stays_a_corpus(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": TEXT, "entities": [[0, 99, "PER"]]})
    (document,) = sources.read(SourceConfig(f"files:{path}"), "document")
    assert document["text"] == TEXT


def test_other_tables_stay_as_they_are(tmp_path):
    path = write(
        tmp_path / "x.jsonl", {"text": TEXT, "labels": ["a", "b"]}, {"text": TEXT, "labels": []}
    )
    assert [set(row.fields) for row in rows(path)] == [{"text", "labels"}] * 2

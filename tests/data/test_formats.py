"""Formats: JSON, SQuAD's files, how formats are recognised, and line ends in all of them."""

import csv
import gzip
import json

import pytest

from research.data import files, formats
from research.data.sources import SourceConfig, read
from research.errors import UserError


def listed(path, kind, **others):
    return list(read(SourceConfig(f"files:{path}", **others), kind))


def fault(path, kind="question", **others):
    with pytest.raises(UserError) as caught:
        listed(path, kind, **others)
    return str(caught.value)


# --- JSON in a file

ROWS = [{"text": "Grüße", "label": "a"}, {"text": "b\nc", "label": "b"}]
TWO = [("Grüße", "a"), ("b\nc", "b")]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2, ensure_ascii=False).replace("\n", "\r\n"),
        "\ufeff" + json.dumps(ROWS) + "\n\n",
        json.dumps({"version": "1", "data": ROWS}),
        "\n".join(map(json.dumps, ROWS)) + "\n",
    ],
    ids=["array", "pretty", "bom", "data", "lines"],
)
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_objects_of_a_json_file(tmp_path, content, name):
    raw = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    got = listed(tmp_path / name, "classification")
    assert [(e["text"], e["label"]) for e in got] == TWO
    assert got[0]["id"] == f"{name}:1"


def test_one_object_is_one_row_and_no_object_none(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps({"text": "One.", "tags": ["x"]}, indent=1))
    assert [e["text"] for e in listed(tmp_path / "one.json", "document")] == ["One."]
    for content in ("[]", ""):
        (tmp_path / "none.json").write_text(content or "\n")
        if content:
            assert "is empty" in fault(tmp_path / "none.json", "document")
        else:
            assert "not JSON" in fault(tmp_path / "none.json", "document")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('[{"text": "a"},\n {"text": "b"\n', ["line 3: not JSON", "array of objects"]),
        ('[{"text": "a"}, 3]', ["object 2: expected an object", "int"]),
        ('"text"', ["expected an object", "str"]),
        ('{"text": "a"}\n{"text": }\n', ["line 2: not JSON"]),
    ],
)
def test_faulty_json_names_the_place(tmp_path, content, parts):
    (tmp_path / "f.json").write_text(content)
    message = fault(tmp_path / "f.json", "document")
    assert all(part in message for part in [f"{tmp_path}/f.json", *parts]), message


# --- SQuAD


def squad(version="v2.0"):
    norman = {"text": "10th century", "answer_start": 3}
    paragraph = {
        "context": "In 10th century France, Normans lived in Normandy.",
        "qas": [
            {
                "id": "56a",
                "question": "When?",
                "answers": [norman, norman, {"text": "10th", "answer_start": 3}],
                "is_impossible": False,
            },
            {
                "id": "56b",
                "question": "Where in Rome?",
                "answers": [],
                "plausible_answers": [{"text": "Normandy", "answer_start": 41}],
                "is_impossible": True,
            },
        ],
    }
    hidden = {"context": "c", "qas": [{"id": "h", "question": "q"}]}
    return {
        "version": version,
        "data": [{"title": "Normans", "paragraphs": [paragraph]}, {"paragraphs": [hidden]}],
    }


RIGHT = [
    {
        "id": "56a",
        "title": "Normans",
        "context": "In 10th century France, Normans lived in Normandy.",
        "question": "When?",
        "answers": {
            "text": ["10th century", "10th century", "10th"],
            "answer_start": [3, 3, 3],
        },
    },
    {
        "id": "56b",
        "title": "Normans",
        "context": "In 10th century France, Normans lived in Normandy.",
        "question": "Where in Rome?",
        "answers": {"text": [], "answer_start": []},
    },
]


def test_squad_as_distributed(tmp_path):
    path = tmp_path / "dev-v2.0.json"
    path.write_text(json.dumps(squad()))
    assert listed(path, "question", take=2) == RIGHT
    rows = list(files.rows([path]))
    assert "answers" not in rows[2].fields and rows[2].read_as == "SQuAD's nested form"
    assert rows[2].where == f"{path}, object 2, paragraph 1, question 1"


@pytest.mark.parametrize("answers", [{}, {"answers": [{"text": "10th", "answer_start": 3}]}])
def test_an_impossible_question_has_no_answer_whatever_stands_beside_it(tmp_path, answers):
    content = squad()
    question = content["data"][0]["paragraphs"][0]["qas"][1]
    del question["answers"]
    question |= answers
    (tmp_path / "s.json").write_text(json.dumps(content))
    assert listed(tmp_path / "s.json", "question", take=2) == RIGHT


def test_squad_of_paragraphs_alone_and_as_lines(tmp_path):
    articles = squad()["data"][:1]
    paragraphs = articles[0]["paragraphs"]
    untitled = [e | {"title": ""} for e in RIGHT]
    (tmp_path / "p.json").write_text(json.dumps(paragraphs))
    assert listed(tmp_path / "p.json", "question") == untitled
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, articles)))
    assert listed(tmp_path / "a.jsonl", "question") == RIGHT


def test_faulty_squad_names_the_place(tmp_path):
    content = squad()
    del content["data"][0]["paragraphs"][0]["qas"][1]["question"]
    (tmp_path / "s.json").write_text(json.dumps(content))
    message = fault(tmp_path / "s.json")
    assert "s.json, object 1, paragraph 1, question 2: no field 'question'" in message
    content["data"][0]["paragraphs"][0]["qas"] = "none"
    (tmp_path / "s.json").write_text(json.dumps(content))
    assert "'qas' should be a list" in fault(tmp_path / "s.json")


# --- what a file is taken for


def test_an_unknown_format_gets_the_nearest_name(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    assert "did you mean 'conll'" in fault(tmp_path / "a.jsonl", "document", format="conl")
    for key, value in (("format", "csv"), ("document", "line")):
        with pytest.raises(UserError, match="for files: sources"):
            read(SourceConfig("tfds:imdb_reviews", **{key: value}), "document")


def test_a_format_reads_a_file_of_any_ending(tmp_path):
    (tmp_path / "part-0001").write_text('{"text": "a"}\n')
    assert "valid endings" in fault(tmp_path / "part-0001", "document")
    assert listed(tmp_path / "part-0001", "document", format="jsonl")[0]["text"] == "a"
    assert set(name for names in formats.ENDINGS.values() for name in names) <= set(formats.FORMATS)


# --- line ends

TEXT = "One.\n\nTwo. — Grüße"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_a_text_is_the_same_whatever_file_it_comes_from(tmp_path, end):
    text = TEXT.replace("\n", end)
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + end.replace("\r", "") + "\n")
    (tmp_path / "a.json").write_text(json.dumps([{"text": text}]))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([["text"], [text]])
    with (tmp_path / "a.tsv").open("w", newline="") as file:
        csv.writer(file, "excel-tab").writerows([["text", "n"], [text, "1"]])
    found = {p.suffix: listed(p, "document", document="") for p in tmp_path.iterdir()}
    del found[".txt"]  # a corpus of one text is cut: as a story it is whole
    found[".txt"] = listed(tmp_path / "a.txt", "story")
    assert {suffix: [e["text"] for e in e] for suffix, e in found.items()} == {
        suffix: [TEXT] for suffix in (".txt", ".jsonl", ".json", ".csv", ".tsv")
    }


def test_answers_move_with_the_line_ends(tmp_path):
    context = "One.\r\n\r\nTwo.\rThree."
    answers = {"text": ["Two", "Three", "\r\n\r\nTwo"], "answer_start": [8, 13, 4]}
    row = {"text": "Two", "ctx": context, "question": "Which?", "answers": answers}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    (example,) = listed(tmp_path / "q.jsonl", "question", fields={"context": "ctx"})
    assert example["context"] == "One.\n\nTwo.\nThree."
    assert example["answers"] == {"text": ["Two", "Three", "\n\nTwo"], "answer_start": [6, 11, 4]}
    nested = [
        {
            "context": context,
            "qas": [
                {
                    "question": "q",
                    "answers": [
                        {"text": text, "answer_start": start}
                        for text, start in zip(
                            answers["text"], answers["answer_start"], strict=True
                        )
                    ],
                }
            ],
        }
    ]
    (tmp_path / "n.json").write_text(json.dumps(nested))
    assert listed(tmp_path / "n.json", "question")[0]["answers"] == example["answers"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_with_a_mark_of_its_encoding_is_read(tmp_path, encoding, end):
    file = tmp_path / "x.tsv"
    file.write_bytes(f"text\tlabel{end}Über 🙂\tx{end}".encode(encoding))
    assert [row.fields for row in files.rows([file])] == [{"text": "Über 🙂", "label": "x"}]


def test_a_file_that_is_not_in_the_encoding_it_begins_with_is_named(tmp_path):
    file = tmp_path / "x.csv"
    file.write_bytes("text,label\na,b\n".encode("utf-16")[:-1])
    with pytest.raises(UserError, match="x.csv, after line 1: not utf-16"):
        list(files.rows([file]))


def test_malformed_parts_of_squad_are_told_one_by_one(tmp_path):
    right = {"id": "1", "question": "q", "answers": [{"text": "c", "answer_start": 0}]}
    qas = [right, {"id": "2"}, 5, right | {"id": "3"}]
    articles = [{"paragraphs": [{"context": "c", "qas": qas}, {"qas": []}, 7]}, {"paragraphs": 5}]
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"data": articles}))
    told = []
    rows = list(files.rows([file], told.append, kind="question"))
    assert [row.fields["id"] for row in rows] == ["1", "3"]
    places = ["question 2: no field 'question'", "question 3: no", "paragraph 3: no field 'qas'"]
    assert all(part in str(error) for part, error in zip(places, told[:3], strict=True))
    assert len(told) == 4 and "object 2: 'paragraphs' should be a list" in str(told[3])


def test_many_quotations_that_do_not_end_take_time_by_their_number(tmp_path):
    file, told = tmp_path / "x.csv", []
    file.write_text("text,label\n" + '"A large screen,neutral\nfine,b\n' * 5000)
    assert len(list(files.rows([file], told.append))) == len(told) == 5000

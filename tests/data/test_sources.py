"""Sources: the bundled data, files of each format, and every fault a file can have."""

import gzip
import json

import pytest

from configs.pretrain import bert
from research.data import bundled, kinds, sources
from research.data.kinds import Columns
from research.data.left_out import LeftOut
from research.data.row import Row
from research.data.sources import SourceConfig, fingerprint, held_out, read
from research.errors import UserError

KIND_OF = {
    "corpus": "document",
    "stories": "story",
    "sentiment": "classification",
    "named_entities": "tokens",
    "question_answering": "question",
}


def write(path, *lines, compressed=False):
    data = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    raw = data.encode()
    path.write_bytes(gzip.compress(raw) if compressed else raw)
    return f"files:{path}"


def listed(name, kind, **others):
    return list(read(SourceConfig(name, **others), kind))


def fault(name, kind="document", **others):
    """Returns the message of the UserError that reading raises."""
    with pytest.raises(UserError) as caught:
        listed(name, kind, **others)
    return str(caught.value)


# --- bundled


@pytest.mark.parametrize("name", bundled.names())
def test_every_bundled_file_reads_as_its_kind(name):
    kind = KIND_OF[name.partition("/")[0]]
    first = next(read(SourceConfig(f"bundled:{name}"), kind))
    expected = {*kinds.KINDS[kind]} - ({"text_a", "text_b"} if kind == "classification" else set())
    assert set(first) == expected
    assert first["id"]


def test_the_bundled_data_is_there():
    per_folder = {folder: [] for folder in KIND_OF}
    for name in bundled.names():
        per_folder[name.partition("/")[0]].append(name)
    assert [len(names) for names in per_folder.values()] == [5, 2, 3, 3, 3]


def test_bundled_answers_stand_where_they_are_said_to():
    examples = listed("bundled:question_answering/factbook_test", "question")
    assert len(examples) == 450  # each was checked against its context on the way


def test_a_wrong_bundled_name_gets_the_nearest_one():
    message = fault("bundled:corpus/braun")
    assert "'corpus/braun'" in message and "did you mean 'corpus/brown'" in message


# --- what a config says


def test_take_gives_the_first_examples():
    whole = listed("bundled:corpus/moby_dick", "document")
    assert listed("bundled:corpus/moby_dick", "document", take=3) == whole[:3]
    assert len(listed("bundled:corpus/moby_dick", "document", take=10_000)) == len(whole)


def counted(start, end):
    """Words that no other text has."""
    return " ".join(f"word{number}" for number in range(start, end))


def test_exclude_leaves_out_what_shares_words_on_end_whatever_the_ids_are(tmp_path):
    held_out = write(tmp_path / "test.jsonl", {"id": "1", "tokens": counted(0, 40).split()})
    texts = {
        "copy": f"At first: {counted(5, 18).upper()}, and so on",
        "too little": f"{counted(5, 17)} and {counted(20, 32)}",
        "same id": "another text",
    }
    rows = [{"id": name if name != "same id" else "1", "text": t} for name, t in texts.items()]
    corpus = write(tmp_path / "corpus.jsonl", *rows)
    left_out, config = LeftOut(), SourceConfig(corpus, exclude=(held_out,))
    found = [e["id"] for _, e in sources.placed(config, "document", left_out=left_out)]
    assert found == ["too little", "1"]
    assert left_out.lines() == [
        "left out: 1 row, shares 13 words on end with a text that exclude names "
        f"({tmp_path}/corpus.jsonl, line 1)"
    ]
    # take counts what is left
    assert [e["id"] for e in listed(corpus, "document", exclude=(held_out,), take=1)] == found[:1]


def test_exclude_looks_at_every_text_of_an_example(tmp_path):
    text = counted(0, 20)
    held_out = write(tmp_path / "test.jsonl", {"context": "c", "question": text})
    pairs = [{"text_a": "a", "text_b": b, "label": "x"} for b in ("b", f"so {text}")]
    name = write(tmp_path / "train.jsonl", *pairs)
    assert [e["text_b"] for e in listed(name, "classification", exclude=(held_out,))] == ["b"]


def test_an_exclude_whose_texts_are_too_short_is_an_error(tmp_path):
    ids = write(tmp_path / "ids.jsonl", {"id": "c1"}, {"id": "c2"})
    texts = write(tmp_path / "a.jsonl", {"id": "c1", "text": "t"})
    assert "longest text has 1 words; texts are compared, not ids" in fault(texts, exclude=(ids,))


@pytest.mark.long
def test_the_pre_training_leaves_out_what_the_entities_are_tested_on():
    tested = {
        e["id"]
        for split in ("validation", "test")
        for e in listed(f"bundled:named_entities/brown_{split}", "tokens")
    }
    of_brown, of_addresses = (SourceConfig(**source) for source in bert.CORPUS[:2])
    left = {e["id"] for e in read(of_brown, "document")}
    gone = {e["id"] for e in read(SourceConfig(of_brown.name), "document")} - left
    # One more quotes the name and titles of a man who is in the news that are tested on.
    assert gone == {f"brown/{name}" for name in tested} | {"brown/ch06"}
    left = {e["id"] for e in read(of_addresses, "document")}
    gone = {e["id"] for e in read(SourceConfig(of_addresses.name), "document")} - left
    # cg35 is the first of them. The second has the formula by which Congress resolves.
    assert gone == {"1960_dwight_d_eisenhower_r", "1862_abraham_lincoln_r"}


def test_fields_rename_and_numbers_become_labels(tmp_path):
    name = write(tmp_path / "r.jsonl", {"review": "good", "stars": 5, "extra": [1]})
    fields = {"text": "review", "label": "stars"}
    example = {"id": "r.jsonl:1", "text": "good", "label": "5"}
    assert listed(name, "classification", fields=fields) == [example]


def test_a_pair_is_found_by_its_first_row_or_by_fields(tmp_path):
    name = write(tmp_path / "p.jsonl", {"id": 7, "text_a": "a", "text_b": "b", "label": "yes"})
    assert listed(name, "classification") == [
        {"id": "7", "text_a": "a", "text_b": "b", "label": "yes"}
    ]
    name = write(tmp_path / "q.jsonl", {"q1": "a", "q2": "b", "label": "yes"})
    fields = {"text_a": "q1", "text_b": "q2"}
    assert listed(name, "classification", fields=fields)[0]["text_b"] == "b"
    assert "one text or a pair" in fault(name, "classification", fields={"text": "q1", **fields})


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"name": "corpus/brown"}, ["'corpus/brown'", "bundled:NAME"]),
        ({"name": "bundle:corpus/brown"}, ["did you mean 'bundled'"]),
        ({"name": "bundled:corpus/brown", "split": "train"}, ["split", "tfds"]),
        ({"name": "bundled:corpus/brown", "data_dir": "/x"}, ["data_dir", "tfds"]),
        ({"name": "bundled:corpus/brown", "take": -1}, ["take is -1"]),
        ({"name": "bundled:corpus/brown", "percent": 0.0}, ["percent is 0.0"]),
        ({"name": "bundled:corpus/brown", "percent": 100.5}, ["percent is 100.5"]),
        ({"name": "bundled:corpus/brown", "part": (5.0, 5.0)}, ["part is [5.0, 5.0]"]),
        ({"name": "bundled:corpus/brown", "document": "lin"}, ["did you mean 'line'"]),
        ({"name": "tfds:squad", "format": "json"}, ["format and document are for files"]),
        ({"name": "bundled:corpus/brown", "exclude": ("tfds:squad",)}, ["exclude", "tfds:squad"]),
        ({"name": "bundled:corpus/brown", "fields": {"txt": "a"}}, ["'txt'", "mean 'text'"]),
    ],
)
def test_a_wrong_config_is_named_before_anything_is_read(config, parts):
    with pytest.raises(UserError) as caught:
        read(SourceConfig(**config), "document")
    assert all(part in str(caught.value) for part in parts)


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match="'documents'.*did you mean 'document'"):
        read(SourceConfig("bundled:corpus/brown"), "documents")


# --- formats


def test_jsonl_plain_and_gzipped_with_blank_lines_and_a_mark(tmp_path):
    row = {"id": "a", "title": "T", "text": "Zürich\u2028is 😀"}
    plain = write(tmp_path / "a.jsonl", "\ufeff", row, "\n", {"id": "b", "text": "two"})
    packed = write(tmp_path / "b.jsonl.gz", row, compressed=True)
    assert listed(plain, "document") == [row, {"id": "b", "title": "", "text": "two"}]
    assert listed(packed, "document") == [row]


def test_a_glob_reads_its_files_in_order_with_ids_that_do_not_clash(tmp_path):
    for folder, text in (("y", "second"), ("x", "first")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "same.jsonl", {"text": text})
    got = listed(f"files:{tmp_path}/**/*.jsonl", "document")
    assert [(e["id"], e["text"]) for e in got] == [
        ("x.same.jsonl:1", "first"),
        ("y.same.jsonl:1", "second"),
    ]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path):
    name = write(tmp_path / "a[1].jsonl", {"text": "here"})
    assert listed(name, "document")[0]["text"] == "here"


def test_csv_with_quoted_line_ends_and_long_cells(tmp_path):
    long = "word " * 50_000
    name = write(
        tmp_path / "c.csv", "\ufefftext,label\r\n", '"two\nlines, ""q""",pos\r\n', f"{long},neg\r\n"
    )
    got = listed(name, "classification")
    assert got[0] == {"id": "c.csv:2", "text": 'two\nlines, "q"', "label": "pos"}
    assert got[1] == {"id": "c.csv:4", "text": long, "label": "neg"}


def test_csv_cells_hold_lists_as_json(tmp_path):
    name = write(tmp_path / "c.csv", "tokens,tags\n", '"[""A"", ""b""]","[""B-X"", ""O""]"\n')
    assert listed(name, "tokens") == [{"id": "c.csv:2", "tokens": ["A", "b"], "tags": ["B-X", "O"]}]
    assert "line 2" in fault(write(tmp_path / "d.csv", "tokens,tags\n", "A b,O O\n"), "tokens")


def test_a_text_file_is_one_document(tmp_path):
    name = write(tmp_path / "novel.txt", "First.\r\n\r\nSecond.\n")
    assert listed(name, "story") == [
        {"id": "novel", "title": "novel", "text": "First.\n\nSecond.\n"}
    ]
    packed = write(tmp_path / "tale.txt.gz", "Once.", compressed=True)
    assert listed(packed, "story") == [{"id": "tale", "title": "tale", "text": "Once."}]


def test_questions_may_have_no_answer(tmp_path):
    row = {"id": "1", "title": "t", "context": "Grüße!", "question": "Who?"}
    none = {"text": [], "answer_start": []}
    one = {"text": ["ße"], "answer_start": [3]}
    name = write(tmp_path / "q.jsonl", {**row, "answers": none}, {**row, "answers": one})
    assert [e["answers"] for e in listed(name, "question")] == [none, one]


# --- what a row means


def placed(name, kind, columns=None, **others):
    """Returns (examples, the report of left-out rows)."""
    left_out = LeftOut()
    found = sources.placed(SourceConfig(name, **others), kind, columns, left_out)
    return [example for _, example in found], left_out.lines()


def test_empty_texts_and_rows_that_a_format_refuses_are_counted(tmp_path):
    rows = [{"text": text, "label": "x"} for text in ("a", "", "b", " \n", "c")]
    name = write(tmp_path / "a.jsonl", *rows)
    found, told = placed(name, "classification")
    assert [e["text"] for e in found] == ["a", "b", "c"]
    assert told == [f"left out: 2 rows, text is empty (the first: {tmp_path}/a.jsonl, line 2)"]
    name = write(tmp_path / "t.jsonl", {"tokens": [], "tags": []}, {"tokens": ["a"], "tags": ["O"]})
    assert placed(name, "tokens")[1] == [f"left out: 1 row, no tokens ({tmp_path}/t.jsonl, line 1)"]
    name = write(tmp_path / "q.jsonl", {"question": "", "context": "c", "answers": "x"})
    with pytest.raises(
        UserError, match="none of its 1 examples is left: left out: 1 row, question is empty"
    ):
        placed(name, "question")
    left_out = LeftOut()
    assert left_out.read(Row("here", "1", {}, "it overlaps"), pytest.fail) is None
    assert left_out.lines() == ["left out: 1 row, it overlaps (here)"]


@pytest.mark.parametrize(
    ("value", "texts", "starts"),
    [
        ("Blue.", ["Blue."], [0]),
        ("blue", ["blue"], [15]),
        ("is", ["is"], [None]),  # twice
        ("green", ["green"], [None]),
        ("", [], []),
        ([], [], []),
        (42, ["42"], [None]),
        (["blue", "sky"], ["blue", "sky"], [15, 11]),
        ({"text": ["blue"]}, ["blue"], [15]),
        ({"text": "is", "answer_start": 6}, ["is"], [6]),
        ([{"text": "is", "answer_start": 19 + 1}], ["is"], [20]),
        ('{"text": ["is"], "answer_start": [6]}', ["is"], [6]),
        ('["blue"]', ["blue"], [15]),
        ("[1, 2]", ["[1, 2]"], [None]),
    ],
)
def test_answers_in_all_their_forms(tmp_path, value, texts, starts):
    row = {"context": "Blue. is a sky blue is it", "question": "Q?", "answers": value}
    name = write(tmp_path / "q.jsonl", row)
    assert listed(name, "question")[0]["answers"] == {"text": texts, "answer_start": starts}


@pytest.mark.parametrize(
    ("value", "names", "label"),
    [
        (True, (), "true"),
        (False, (), "false"),
        (0, (), "0"),
        (4.5, (), "4.5"),
        (True, ("no", "yes"), "yes"),
        (0, ("no", "yes"), "no"),
        (1.0, ("no", "yes"), "yes"),
        ("1", ("no", "yes"), "yes"),
        ("yes", ("no", "yes"), "yes"),
    ],
)
def test_labels_as_numbers_and_truths(tmp_path, value, names, label):
    name = write(tmp_path / "a.jsonl", {"text": "a", "label": value})
    assert listed(name, "classification", label_names=names)[0]["label"] == label


@pytest.mark.parametrize("value", [2, -1, 0.5, "maybe"])
def test_a_number_without_a_name_is_an_error(tmp_path, value):
    name = write(tmp_path / "a.jsonl", {"text": "a", "label": value})
    message = fault(name, "classification", label_names=("no", "yes"))
    assert "line 1: 'label' is" in message and "names for 0 (no) to 1 (yes)" in message


def test_tags_as_numbers_have_the_names_that_the_source_gives(tmp_path):
    name = write(tmp_path / "n.jsonl", {"tokens": ["Ada", "in", "Rome"], "ner_tags": [1, 0, 5]})
    names = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
    more = {"fields": {"tags": "ner_tags"}, "label_names": names}
    assert listed(name, "tokens", **more)[0]["tags"] == ["B-PER", "O", "B-LOC"]


@pytest.mark.parametrize(
    ("kind", "row", "hint"),
    [
        ("tokens", {"id": 1, "text": "Ada", "label": "PER"}, "None of them is a list of"),
        ("classification", {"id": 1, "review": "good one", "stars": 5}, '{"text": "review"}'),
        ("classification", {"id": 1, "text": "good one", "stars": 5}, '{"label": "stars"}'),
        ("classification", {"id": 1, "text": "good one"}, "None of them is a text, a number"),
        ("question", {"question": "Q?", "context": "c", "said": "b"}, '{"answers": "said"}'),
        ("multi_label", {"text": "a", "id": 3, "topics": ["x"]}, '{"labels": "topics"}'),
    ],
)
def test_a_hint_names_only_a_column_that_can_be_it(tmp_path, kind, row, hint):
    assert hint in fault(write(tmp_path / "a.jsonl", row), kind)


def test_lists_in_cells_may_be_pythons(tmp_path):
    name = write(tmp_path / "c.csv", "tokens,tags\n", "\"['A', 'b']\",\"['B-X', 'O']\"\n")
    assert listed(name, "tokens")[0]["tokens"] == ["A", "b"]


def test_columns_of_another_split_are_taken_where_the_table_has_them(tmp_path):
    columns = Columns(others={"text": "review", "label": "stars"})
    theirs = write(tmp_path / "a.jsonl", {"review": "good", "stars": 5, "text": "no"})
    ours = write(tmp_path / "b.jsonl", {"text": "good", "label": "5"})
    for name in (theirs, ours):
        example = placed(name, "classification", columns)[0][0]
        assert (example["text"], example["label"]) == ("good", "5")
    pair = Columns(others={"text_a": "q1", "text_b": "q2"})
    name = write(tmp_path / "p.jsonl", {"q1": "a", "q2": "b", "text": "c", "label": "x"})
    assert set(placed(name, "classification", pair)[0][0]) == {"id", "text_a", "text_b", "label"}


def test_two_parts_share_no_example_and_leave_none_out():
    name = "bundled:sentiment/customer_reviews_validation"
    every = [e["id"] for e in listed(name, "classification")]
    parts = [
        [e["id"] for e in listed(name, "classification", part=part)]
        for part in ((0.0, 20.0), (20.0, 100.0))
    ]
    assert sorted(parts[0] + parts[1]) == sorted(every)
    assert parts[0] == [i for i in every if held_out(i, 20.0)]
    with pytest.raises(UserError, match="part is"):
        listed(name, "classification", part=(20.0, 5.0))


# --- faults

QUESTION = {"context": "Grüße!", "question": "Who?"}


@pytest.mark.parametrize(
    ("kind", "bad", "parts"),
    [
        ("document", '{"text": "a"\n', ["not JSON"]),
        ("document", '["a"]\n', ["expected an object", "list"]),
        ("document", {"txt": "a", "n": 1}, ["'text'", "txt, n", "fields"]),
        ("document", {"text": 3}, ["'text' should be text", "int 3"]),
        ("document", {"text": None}, ["'text' should be text"]),
        ("document", '{"text": "\\ud83d"}\n', ["lone surrogate"]),
        ("document", {"id": {}, "text": "a"}, ["'id'"]),
        ("classification", {"text": "a"}, ["'label'"]),
        ("classification", {"text": "a", "label": ""}, ["empty label"]),
        ("classification", {"text": "a", "label": None}, ["without a label"]),
        ("classification", {"text": "a", "label": [1]}, ["'label' should be text", "list [1]"]),
        ("tokens", {"tokens": ["a", "b"], "tags": ["O"]}, ["2 tokens but 1 tags"]),
        ("tokens", {"tokens": ["a"], "tags": [3]}, ["holds numbers", "label_names"]),
        ("tokens", {"tokens": [""], "tags": ["O"]}, ["empty word"]),
        ("tokens", {"tokens": {"a": 1}, "tags": ["O"]}, ["should be a list"]),
        ("question", {**QUESTION, "answers": {"start": 1}}, ["'answers' should be a text, a list"]),
        ("question", {**QUESTION, "answers": None}, ["'answers' should be", "NoneType"]),
        (
            "question",
            {**QUESTION, "answers": {"text": ["ße"], "answer_start": [4]}},
            ["answer_start 4", "'ße'", "'e!'"],
        ),
        (
            "question",
            {**QUESTION, "answers": {"text": ["!"], "answer_start": [-1]}},
            ["answer_start -1"],
        ),
        (
            "question",
            {**QUESTION, "answers": {"text": ["ße"], "answer_start": []}},
            ["one whole number"],
        ),
    ],
)
def test_a_faulty_row_names_file_line_and_what_is_wrong(tmp_path, kind, bad, parts):
    good = {
        "text": "a",
        "label": "x",
        "tokens": ["a"],
        "tags": ["O"],
        **QUESTION,
        "answers": {"text": [], "answer_start": []},
    }
    name = write(tmp_path / "f.jsonl", good, good, bad)
    message = fault(name, kind)
    assert all(part in message for part in [f"{tmp_path}/f.jsonl, line 3", *parts]), message
    assert len(message.splitlines()) <= 12


def test_a_field_that_the_config_names_must_be_there(tmp_path):
    name = write(tmp_path / "f.jsonl", {"text": "a"})
    assert "no field 'key' (for our 'id')" in fault(name, fields={"id": "key"})


def test_not_utf8_names_the_line(tmp_path):
    (tmp_path / "l.jsonl").write_bytes(b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    assert "l.jsonl, line 2: not UTF-8" in fault(f"files:{tmp_path}/l.jsonl")


def test_a_cut_gzip_file_is_named(tmp_path):
    whole = gzip.compress(b'{"text": "some text that is long enough"}\n' * 100)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "not.jsonl.gz").write_bytes(b'{"text": "a"}\n')
    for file in ("cut", "not"):
        message = fault(f"files:{tmp_path}/{file}.jsonl.gz")
        assert f"{file}.jsonl.gz" in message and "gzip" in message


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        (["text,text\n", "a,b\n"], "line 1: a column name occurs twice"),
        (["text,label\n", "a,b\n", "a\n"], "line 3: 1 fields, but the header has 2"),
        (["text\n", '"open\n'], "line 2: not CSV"),
    ],
)
def test_faulty_csv_names_the_line(tmp_path, lines, part):
    assert part in fault(write(tmp_path / "c.csv", *lines))


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.csv", "empty.txt"])
def test_an_empty_source_is_an_error(tmp_path, name):
    (tmp_path / name).write_text("text,label\n" if name == "empty.csv" else "\n")
    message = fault(f"files:{tmp_path}/{name}")
    assert "empty" in message and name in message


def test_excluding_everything_is_an_error(tmp_path):
    name = write(tmp_path / "a.jsonl", {"id": "1", "text": counted(0, 20)})
    message = fault(name, exclude=(name,))
    assert "none of its 1 examples is left: left out: 1 row, shares 13 words" in message


def test_missing_files_are_named_with_the_nearest(tmp_path):
    write(tmp_path / "reviews.jsonl", {"text": "a"})
    assert "did you mean 'reviews.jsonl'" in fault(f"files:{tmp_path}/review.jsonl")
    assert f"no folder {tmp_path}/nowhere" in fault(f"files:{tmp_path}/nowhere/a.jsonl")
    assert "matches no file" in fault(f"files:{tmp_path}/*.csv")
    assert "is a folder" in fault(f"files:{tmp_path}")
    (tmp_path / "a.parquet").write_bytes(b"")
    assert "valid endings: .jsonl, .ndjson, .json, .csv, .tsv, .txt" in fault(
        f"files:{tmp_path}/a.parquet"
    )


# --- fingerprint and held-out part


def test_fingerprint_follows_the_data_and_not_its_place(tmp_path):
    rows = [{"id": str(i), "text": "t"} for i in range(3)]
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        name = write(tmp_path / folder / "a.jsonl", *rows)
    first = fingerprint(SourceConfig(f"files:{tmp_path}/x/a.jsonl"))
    assert first == fingerprint(SourceConfig(name)) and len(first) == 64
    changes = [
        {"take": 2},
        {"fields": {"text": "id"}},
        {"exclude": ("bundled:corpus/moby_dick",)},
    ]
    all_of_them = {first, *(fingerprint(SourceConfig(name, **change)) for change in changes)}
    rows[1]["text"] = "u"  # same size, same name
    write(tmp_path / "y" / "a.jsonl", *rows)
    assert len({*all_of_them, fingerprint(SourceConfig(name))}) == 5


def test_held_out_is_a_fixed_share_by_id():
    ids = [f"doc/{i}" for i in range(20_000)]
    share = sum(held_out(i) for i in ids) / len(ids)
    assert abs(share - 0.02) < 4 * (0.02 * 0.98 / len(ids)) ** 0.5
    assert [held_out(i) for i in ids] == [held_out(i) for i in reversed(ids)][::-1]
    assert {i for i in ids if held_out(i, 1.0)} < {i for i in ids if held_out(i, 5.0)}
    assert not any(held_out(i, 0.0) for i in ids) and all(held_out(i, 100.0) for i in ids)
    # The golden value: a change of the rule would move documents between the two parts.
    assert [i for i in ids[:200] if held_out(i)] == [
        "doc/11",
        "doc/68",
        "doc/70",
        "doc/91",
        "doc/180",
    ]


def test_percent_keeps_a_share_spread_over_the_whole_set():
    name = "bundled:sentiment/customer_reviews_train"
    every = [e["id"] for e in read(SourceConfig(name), "classification")]
    some = [e["id"] for e in read(SourceConfig(name, percent=10.0), "classification")]
    assert abs(len(some) / len(every) - 0.1) < 4 * (0.1 * 0.9 / len(every)) ** 0.5
    places = [every.index(i) for i in some]
    assert places == sorted(places)
    assert abs(sum(places) / len(places) / len(every) - 0.5) < 0.05
    assert fingerprint(SourceConfig(name)) != fingerprint(SourceConfig(name, percent=10.0))


# --- pieces


def test_pieces_in_order_are_what_is_read(tmp_path):
    (tmp_path / "in").mkdir()
    # Ids are made from names and lines.
    texts = [{"text": counted(20 * i, 20 * i + 20)} for i in range(9)]
    write(tmp_path / "a.jsonl", *texts)
    write(tmp_path / "b.csv", "text,id\nx,7\ny,8\n")
    write(tmp_path / "c.jsonl", "\n")  # an empty file among others
    write(tmp_path / "in" / "d.txt", "a document")
    write(tmp_path / "in" / "e.jsonl.gz", *texts, compressed=True)
    left_out = write(tmp_path / "in" / "x.csv", f"text\n{counted(21, 39)}\n")
    name = f"files:{tmp_path}/**/[a-e].*"
    for more in ({}, {"exclude": (left_out,)}, {"percent": 40.0}):
        source = SourceConfig(name, **more)
        found = [list(piece()) for piece in sources.pieces(source)]
        assert len(found) == 5 and found[2] == []
        assert [e for piece in found for e in piece] == list(read(source, "document"))
    alone = sources.pieces(SourceConfig(name, take=10))
    assert len(alone) == 1 and list(alone[0]()) == listed(name, "document", take=10)


def test_no_file_is_opened_before_its_piece_is_read(tmp_path, monkeypatch):
    for number in range(3):
        write(tmp_path / f"{number}.jsonl", {"text": f"text {number}"})
    pieces = sources.pieces(SourceConfig(f"files:{tmp_path}/*.jsonl"))
    for number in (0, 2):
        (tmp_path / f"{number}.jsonl").write_text("{broken")
    assert [e["text"] for e in pieces[1]()] == ["text 1"]
    with pytest.raises(UserError, match="2.jsonl, line 1"):
        list(pieces[2]())

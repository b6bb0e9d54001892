"""GLUE's tables as they are distributed, with the columns that their readers in TFDS name."""

import pathlib

import pytest

from research.config import file as config_file
from research.data import files, glue
from research.data.sources import SourceConfig, read

ROOT = pathlib.Path(__file__).parents[2]
PARSES = "sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse".split()
SENTENCES = ["sentence1", "sentence2"]
PAIR = ['"Quoted, he said', 'Or " not"']
TASKS = {  # header, a row, label as it stands
    "sst2": (["sentence", "label"], ['"hide" new secretions ', "0"]),
    "mrpc": (["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["1", "7", "8", *PAIR]),
    "qqp": (
        ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
        ["133", "1", "2", *PAIR, "0"],
    ),
    "stsb": (
        "index genre filename year old_index source1 source2".split() + [*SENTENCES, "score"],
        ["0", "main", "MSR", "2012", "1", "none", "none", *PAIR, "3.800"],
    ),
    "mnli": (
        ["index", "promptID", "pairID", "genre", *PARSES, *SENTENCES, "label1", "gold_label"],
        ["0", "1", "1n", "travel", "( a )", "( b )", "(A)", "(B)", *PAIR, "neutral", "entailment"],
    ),
    "qnli": (["index", "question", "sentence", "label"], ["0", *PAIR, "not_entailment"]),
    "rte": (["index", *SENTENCES, "label"], ["0", *PAIR, "not_entailment"]),
    "wnli": (["index", *SENTENCES, "label"], ["0", *PAIR, "1"]),
}
NAMED = {"sst2": "negative", "mrpc": "equivalent", "qqp": "not_duplicate", "wnli": "entailment"}


def listed(path, **others):
    return list(read(SourceConfig(f"files:{path}", **others), "classification"))


def put(path, *rows):
    path.write_bytes("".join("\t".join(row) + "\n" for row in rows).encode())
    return path


@pytest.mark.parametrize("task", TASKS)
def test_columns_by_their_names(tmp_path, task):
    header, row = TASKS[task]
    label = row[0] if task == "mrpc" else row[-1]
    texts = {"text": row[0]} if task == "sst2" else {"text_a": PAIR[0], "text_b": PAIR[1]}
    path = put(tmp_path / "train.tsv", ["\ufeff" + header[0], *header[1:]], row)
    right = {"id": row[0] if task == "qqp" else "train.tsv:2", **texts}
    assert listed(path) == [right | {"label": label}]
    named = right | {"label": NAMED.get(task, label)}
    assert listed(path, format=f"glue/{task}") == [named]
    kept = [at for at, name in enumerate(header) if name not in ("index", *glue._LABEL)]
    without = [["index", *(header[at] for at in kept)], ["0", *(row[at] for at in kept)]]
    test = put(tmp_path / "test.tsv", *without)
    (hidden,) = files.rows([test])
    assert texts.items() <= hidden.fields.items() and "label" not in hidden.fields


def test_cola_has_no_header_but_for_its_test_set(tmp_path):
    path = put(
        tmp_path / "train.tsv",
        ["gj04", "1", "", "Our friends \"won't buy this."],
        ["gj04", "0", "*", "They drank the pub."],
    )
    got = [(e["text"], e["label"]) for e in listed(path, format="glue/cola")]
    assert got == [
        ("Our friends \"won't buy this.", "acceptable"),
        ("They drank the pub.", "unacceptable"),
    ]
    assert [e["label"] for e in listed(path)] == ["1", "0"]
    (row,) = files.rows(
        [put(tmp_path / "test.tsv", ["index", "sentence"], ["0", "Bill whistled."])]
    )
    assert row.fields == {"index": "0", "sentence": "Bill whistled.", "text": "Bill whistled."}


@pytest.mark.parametrize("task", [*TASKS, "cola"])
def test_the_config_reads_the_folder_of_a_task(tmp_path, task):
    arg = f"{ROOT}/configs/finetune/glue.py:task={task},folder={tmp_path}"
    values = config_file.values(arg)
    rows = TASKS.get(task, [["gj04", "1", "", "It stands."], ["gj04", "0", "*", "It stand."]])
    for split in ("train", "validation", *(["test"] if task == "mnli" else [])):
        path = pathlib.Path(values["data"][split]["name"].removeprefix("files:"))
        path.parent.mkdir(exist_ok=True)
        source = values["data"][split]
        put(path, *rows)
        labels = {e["label"] for e in read(SourceConfig(**source), "classification")}
        assert labels <= set(values["task"].get("labels") or ["3.800"])
    folders = {"sst2": "SST-2", "stsb": "STS-B", "cola": "CoLA"}
    assert [p.name for p in tmp_path.iterdir()] == [folders.get(task, task.upper())]


def test_mrpcs_own_files_end_in_txt(tmp_path):
    path = put(tmp_path / "msr_paraphrase_train.txt", *TASKS["mrpc"])
    assert listed(path)[0]["text_a"] == PAIR[0]


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    header, row = TASKS["qqp"]
    path = put(tmp_path / "train.tsv", header, row[:4], row, [*row[:-1]], [])
    assert len(listed(path)) == 1
    assert [r.left_out for r in files.rows([path]) if r.left_out] == [
        "a row that ends before its column 'question2'",
        "a row that ends before its column 'is_duplicate'",
    ]
    header, row = TASKS["mnli"]
    (pair,) = files.rows([put(tmp_path / "snli.tsv", header, [*row[:-1], "-"])])
    assert "did not agree" in pair.left_out


def test_other_tables_are_not_taken_for_gluess(tmp_path):
    for header in (["text", "label"], ["sentence", "stars"], ["index", "label"], ["sentence"]):
        assert not glue.starts("\t".join(header) + "\n")

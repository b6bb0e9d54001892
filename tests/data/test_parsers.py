"""Users' files may be damaged in any way: they are read, or an error says what is wrong."""

import gzip
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from research import config as configs
from research.data import sources, tokenizer, tokenizer_files
from research.data.left_out import LeftOut
from research.data.sources import SourceConfig
from research.errors import UserError
from tests import helpers

SECONDS = float(os.environ.get("FUZZ_SECONDS", 20))  # of each parser, in the long suite


def lines(*rows: object) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho \U0001f600"}]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
ANSWER = {"text": ["Rome"], "answer_start": [6]}
SQUAD = {"id": "q1", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 6}]}
SQUAD = {"title": "t", "paragraphs": [{"context": "It is Rome.", "qas": [SQUAD, SQUAD]}]}
STUDIO = {"value": {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}}
STUDIO = {"data": {"text": "Ada is"}, "annotations": [{"result": [STUDIO]}]}
INSTRUCTION = {"instruction": "Do.", "input": "x", "output": "y", "history": [["a", "b"]]}
QUESTION = {"context": "It is Rome.", "question": "Where?", "answers": ANSWER}
CHOICES = {"text": "a", "choices": ["b", "c"], "label": 1}
LABELLED = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
COLUMNS = b"EU\tB-ORG\nis\tO\n\nIn\tO\nRome\tB-LOC\n"
# ending, kind of example, contents that are right
FILES: dict[str, tuple[str, str, list[bytes]]] = {
    "jsonl": (".jsonl", "document", [lines({"id": 1, "text": "a"}, {"id": "b", "text": "é"})]),
    "json": (
        ".json",
        "classification",
        [json.dumps(LABELLED).encode()],
    ),
    "csv": (
        ".csv",
        "classification",
        [b'text,label\n"a, ""b""",x\nc,y\n', b"sep=;\ntext;label\r\na;x\r\n"],
    ),
    "tsv": (".tsv", "classification", [b'text\tlabel\na\tx\n"b\tc"\ty\n']),
    "glue": (".tsv", "classification", [b"index\tsentence\tlabel\n0\ta b\t1\n"]),
    "squad": (".json", "question", [json.dumps({"data": [SQUAD]}).encode()]),
    "answers": (
        ".jsonl",
        "question",
        [lines(QUESTION)],
    ),
    "conll": (
        ".conll",
        "tokens",
        [COLUMNS, b"1 EU _ O\n2 is _ O\n"],
    ),
    "chat": (".jsonl", "chat", [lines({"messages": CHAT}), lines({"conversations": SHAREGPT})]),
    "instructions": (".jsonl", "chat", [lines(INSTRUCTION)]),
    "spans": (
        ".jsonl",
        "tokens",
        [
            lines({"text": "Ada is", "label": [[0, 3, "PER"]]}),
            lines(["Ada is", {"entities": [[0, 3, "PER"]]}]),
            lines({"text": "Ada is", "spans": [{"start": 0, "end": 3, "label": "PER"}]}),
            lines(STUDIO),
        ],
    ),
    "choices": (
        ".jsonl",
        "multiple_choice",
        [lines(CHOICES)],
    ),
    "labels": (".csv", "multi_label", [b'text,labels\na,"[""x""]"\nb,[]\n']),
    "text": (".txt", "document", [b"a b\n\nc d\n"]),
    "gzip": (".jsonl.gz", "document", [gzip.compress(lines({"text": "a"}))]),
}
WORDS = [
    *(sign.encode() for sign in "\"',;:[]{}\\#\n\r\t\0 é😀"),
    *b"null true NaN -1 1e999 99999999999999999999 [[ {} [] text label id B- I-X".split(),
    *(b"\r\n", b'""', b"-DOCSTART-", b"\\ud800"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80"),  # marks, and half a character
]


def mutated(draw: random.Random, seeds: list[bytes]) -> bytes:
    """Returns one of the contents with a few bytes changed, dropped or doubled, or words added."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, 4)):
        a, b = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        change = draw.randrange(6)
        if change == 0 and data:
            data[min(a, len(data) - 1)] ^= 1 << draw.randrange(8)
        elif change == 1:
            del data[a : min(b, a + 40)]
        elif change == 2:
            data[a:a] = data[a : min(b, a + 60)]
        elif change == 3:
            data[a:b] = draw.choice(seeds)[: draw.randrange(200)]
        else:
            data[a : a + draw.randrange(3)] = draw.choice(WORDS)
    return bytes(data)


def read_file(folder: Path, name: str, data: bytes) -> list:
    ending, kind, _ = FILES[name]
    file = folder / f"x{ending}"
    file.write_bytes(data)
    return list(sources.placed(SourceConfig(f"files:{file}"), kind, left_out=LeftOut()))


def read_tokenizer(folder: Path, name: str, data: bytes) -> list[int]:
    (folder / "tokenizer.json").write_bytes(data)
    return list(tokenizer_files.load(folder / "tokenizer.json").encode("a [MASK] text").ids)


def read_config(folder: Path, name: str, data: bytes) -> configs.Config:
    """A value of a key on the command line."""
    key, _, value = data.decode("utf-8", "replace").partition("=")
    return configs.override(CONFIG, {key: value}, "config")


CONFIG = {
    "data": {"corpus": [{"name": "bundled:corpus/brown"}], "length": 32},
    "objective": {"masked_lm": {}},
    "model": {"preset": "bert_tiny"},
    "train": {"steps": 2, "batch_size": 64},
}
SEEDS: dict[str, list[bytes]] = {name: contents for name, (_, _, contents) in FILES.items()}
SEEDS["tokenizer.json"] = [
    helpers.word_pieces().library_json().encode(),
    tokenizer.characters(["ab"]).to_json().encode(),
]
SEEDS["config"] = [
    b"train.steps=3",
    b"data.corpus=[{'name': 'bundled:corpus/brown', 'fields': {'text': 'x'}}]",
    b"model.width=64",
    b"objective.masked_lm.rate=0.2",
    b"data.weights=[1, 2.5]",
    b"train.peak=None",
    b"mesh.data=2",
]


def reader(name: str) -> Callable[[Path, str, bytes], Any]:
    return {"tokenizer.json": read_tokenizer, "config": read_config}.get(name, read_file)


def try_one(folder: Path, name: str, draw: random.Random) -> None:
    data = mutated(draw, SEEDS[name])
    try:
        reader(name)(folder, name, data)
    except UserError as error:
        assert 0 < len(str(error)) < 5000
    except BaseException as error:
        (folder / "finding").write_bytes(data)
        raise AssertionError(f"{name}: {data!r}: {error!r}") from error


@pytest.mark.parametrize("name", SEEDS)
def test_what_is_right_is_read(tmp_path, name):
    for data in SEEDS[name]:
        if name != "config":  # some keys of which have no place in this one
            assert reader(name)(tmp_path, name, data), data


@pytest.mark.parametrize("name", SEEDS)
def test_what_is_damaged_is_read_or_refused_in_words(tmp_path, name):
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def run(draw: random.Random) -> None:
        try_one(tmp_path, name, draw)

    run()


@pytest.mark.long
@pytest.mark.parametrize("name", SEEDS)
def test_what_is_damaged_in_many_ways_is_read_or_refused_in_words(tmp_path, name):
    draw, end, count = random.Random(name), time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        try_one(tmp_path, name, draw)
        count += 1
    print(f"{name}: {count:,} inputs")

"""Outlines of pieces, and the arrangement of documents in blocks."""

import json

import numpy as np
import pytest

from research.data import outline, sources, store
from research.data.sources import SourceConfig
from research.errors import UserError

WORDS = "one two three four five six seven eight nine ten".split()


def documents(prefix: str, texts) -> list[dict]:
    return [{"id": f"{prefix}{i}", "text": text} for i, text in enumerate(texts)]


def arranged(*texts, split="train", percent=0.0, size=10**9, only=None, cut=2):
    """Arranges sources, each a list of texts, in pieces of `cut` documents."""
    outlines = [
        [
            outline.outline(documents(f"s{s}-", source)[at : at + cut])
            for at in range(0, len(source), cut)
        ]
        for s, source in enumerate(texts)
    ]
    return outline.arrange(outlines, split, percent, size, only)


def places(arrangement) -> list[tuple[int, int]]:
    return list(zip(arrangement["source"].tolist(), arrangement["index"].tolist(), strict=True))


def test_one_document_of_each_source_in_turn():
    arrangement = arranged(WORDS[:4], WORDS[5:7])
    assert places(arrangement) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3)]


def test_the_order_is_that_of_reading_all_sources_at_once(tmp_path):
    corpus = []
    for number, count in enumerate((37, 5)):
        file = tmp_path / f"{number}.jsonl"
        rows = [{"id": f"{number}.{i}", "text": f"{number} {i}"} for i in range(count)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        corpus.append(SourceConfig(f"files:{file}"))
    readers = [sources.pieces(source) for source in corpus]
    outlines = [[outline.outline(read()) for read in source] for source in readers]
    for split in ("train", "validation"):
        arrangement = outline.arrange(outlines, split, 30.0, 10**9)
        texts = outline.Texts(readers, arrangement["pieces"])
        expected = [d["text"] for d in store.documents(tuple(corpus), 30.0, split)]
        assert [texts(*place) for place in places(arrangement)] == expected and len(expected) > 5


def test_equal_documents_stay_once_the_first_of_all_sources_and_pieces():
    arrangement = arranged(["a", "b", "a", "c"], ["b", "d", "a"])
    # In turn: a b | b d | a a | c
    assert places(arrangement) == [(0, 0), (1, 0), (1, 1), (0, 3)]
    assert arrangement["duplicates"] == 3
    alone = arranged(["a", "b", "a", "c"], ["b", "d", "a"], only=1)
    assert places(alone) == [(1, 0), (1, 1)] and alone["duplicates"] == 1


def test_empty_documents_are_no_duplicates():
    assert arranged(["", "a", ""])["duplicates"] == 0


def test_a_document_is_never_learnt_in_one_split_and_held_out_in_the_other():
    texts = [f"text {i % 50}" for i in range(200)]
    kept = {}
    for split in ("train", "validation"):
        arrangement = arranged(texts, split=split, percent=30.0)
        kept[split] = {texts[i] for _, i in places(arrangement)}
        assert len(kept[split]) == len(arrangement["index"])
    assert not kept["train"] & kept["validation"]
    assert len(kept["train"] | kept["validation"]) == 50 and len(kept["validation"]) > 5


def test_blocks_end_with_the_document_that_fills_them():
    arrangement = arranged(["aa", "bbbb", "c", "dd", "eee"], size=5)
    assert arrangement["blocks"].tolist() == [0, 2, 5] and arrangement["bytes"].tolist() == [6, 6]
    exact = arranged(["aa", "bbb", "c", "d"], size=5)
    assert exact["blocks"].tolist() == [0, 2, 4]
    assert arranged(["aaaaa"], size=5)["blocks"].tolist() == [0, 1]
    assert arranged([""], size=5)["blocks"].tolist() == [0, 1]


def test_two_hashes_that_share_half_of_their_bits_are_two():
    hashes = np.array([[1, 5], [1, 6], [1, 5], [2, 5], [1, 6]], np.uint64)
    assert outline._repeated(hashes).tolist() == [False, False, True, False, True]


def test_texts_in_order_open_a_piece_when_it_is_needed_and_once():
    opened = []

    def reader(number):
        def read():
            opened.append(number)
            yield from documents("", WORDS[number * 2 : number * 2 + 2])

        return read

    texts = outline.Texts([[reader(n) for n in range(5)]], np.array([[0, 2, 4, 6, 8, 10]]))
    assert opened == []
    assert [texts(0, i) for i in (1, 2, 3, 9)] == ["two", "three", "four", "ten"]
    assert opened == [0, 1, 4]
    assert texts(0, 3) == "four"  # backwards is possible
    short = outline.Texts([[reader(0)]], np.array([[0, 3]]))
    with pytest.raises(UserError, match="changed while.*document 2 of source 0"):
        short(0, 2)

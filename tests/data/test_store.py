"""The token store: content, keys, and builds that fail."""

import json
from pathlib import Path

import numpy as np
import pytest

from research.data import sources, store, tokenizer
from research.data.sentences import split_sentences
from research.data.sources import SourceConfig
from research.errors import UserError
from tests import helpers

TEXTS = (
    "First one. A second, longer one!\n\nA new paragraph: is it the third? Yes.",
    "Only this.",
    "",
    "Ünïcode — naïve café. Zwölf Boxkämpfer.",
)


def write(folder: Path, texts=TEXTS) -> SourceConfig:
    rows = [{"id": f"d{i}", "title": "", "text": t} for i, t in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return SourceConfig(f"files:{folder / 'corpus.jsonl'}")


def build(folder: Path, source: SourceConfig, split="train", percent=0.001, tokens=None, **_):
    tokens = tokens or tokenizer.byte_tokenizer()
    return store.build((source,), split, percent, tokens, str(folder / "cache"), quiet=True)


def test_a_block_gives_back_documents_sentences_and_words(tmp_path):
    tokens = helpers.word_pieces()
    draw = np.random.default_rng(0)
    texts = [helpers.document(draw, n) for n in (1, 7, 3)]
    made = build(tmp_path, write(tmp_path, texts), tokens=tokens)
    block = made.block(0)
    assert made.blocks == 1 and made.counts["documents"] == 3
    assert made.counts["bytes"] == sum(len(t.encode()) for t in texts)
    assert made.counts["tokens"] == len(block.tokens) == block.lengths.sum()
    assert made.counts["sentences"] == sum(len(split_sentences(t)) for t in texts) > 6
    for document, text in enumerate(texts):
        encoding = tokens.encode(text)
        n = int(block.lengths[document])
        ids, starts = block.slice(document, 0, n)
        assert np.array_equal(ids, encoding.ids)
        assert np.array_equal(starts, np.diff(encoding.words, prepend=-1) != 0)
        offsets = block.sentence_offsets()[document]
        assert offsets[0] == 0 and offsets[-1] == n
        pieces = [tokens.decode(ids[a:b]) for a, b in zip(offsets, offsets[1:], strict=False)]
        assert pieces == [tokens.decode(tokens.encode(s).ids) for s in split_sentences(text)]
    part, _ = block.slice(1, 3, 9)
    assert np.array_equal(part, tokens.encode(texts[1]).ids[3:9])


def test_blocks_are_cut_by_bytes_and_lose_nothing(tmp_path, monkeypatch):
    source = SourceConfig(helpers.write_corpus(tmp_path / "c.jsonl", 50))
    whole = build(tmp_path, source)
    monkeypatch.setattr(store, "BLOCK_BYTES", 600)
    cut = build(tmp_path, source)
    assert cut.key != whole.key and cut.blocks > 3
    blocks = [cut.block(b) for b in range(cut.blocks)]
    joined = np.concatenate([b.tokens for b in blocks])
    assert np.array_equal(joined, whole.block(0).tokens)
    assert {k: cut.counts[k] for k in ("documents", "sentences", "tokens", "bytes")} == {
        k: whole.counts[k] for k in ("documents", "sentences", "tokens", "bytes")
    }


def test_the_format_has_not_changed(tmp_path):
    """When this fails, raise store.FORMAT and write the new numbers here."""
    made = build(tmp_path, write(tmp_path))
    block = made.block(0)
    assert store.FORMAT == 1
    assert {name: getattr(block, name).dtype.name for name in store.ARRAYS} == {
        "tokens": "uint32",
        "word_starts": "bool",
        "documents": "int64",
        "sentences": "int64",
        "document_sentences": "int64",
    }
    assert block.documents.tolist() == [0, 72, 82, 129]
    assert block.sentences.tolist() == [0, 11, 34, 68, 72, 82, 110, 129]
    assert block.document_sentences.tolist() == [0, 4, 5, 7]
    assert int((block.tokens * np.arange(1, 130)).sum()) == 896_218
    assert np.flatnonzero(block.word_starts)[:11].tolist() == [
        0,
        5,
        9,
        10,
        12,
        19,
        20,
        27,
        31,
        32,
        33,
    ]


def test_the_same_content_has_the_same_key_and_is_built_once(tmp_path, monkeypatch):
    source = write(tmp_path)
    first = build(tmp_path, source)
    monkeypatch.setattr(store, "_write_block", None)  # a second build would fail
    assert build(tmp_path, source) == first


def test_the_key_changes_with_whatever_changes_the_tokens(tmp_path, monkeypatch):
    source = write(tmp_path)
    keys = {build(tmp_path, source).key}
    keys.add(build(tmp_path, source, percent=50.0).key)
    keys.add(build(tmp_path, source, tokens=tokenizer.characters(TEXTS)).key)
    keys.add(build(tmp_path, SourceConfig(source.name, take=2)).key)
    monkeypatch.setattr(store, "FORMAT", 99)
    keys.add(build(tmp_path, source).key)
    keys.add(build(tmp_path, write(tmp_path, ("Another text.",))).key)
    assert len(keys) == 6


def test_the_splits_share_no_document_and_lose_none(tmp_path):
    source = SourceConfig(helpers.write_corpus(tmp_path / "c.jsonl", 200))
    ids = {
        split: [d["id"] for d in store.documents((source,), 10.0, split)]
        for split in ("train", "validation")
    }
    assert not set(ids["train"]) & set(ids["validation"])
    assert sorted(ids["train"] + ids["validation"]) == sorted(f"d{i}" for i in range(200))
    assert 5 <= len(ids["validation"]) <= 40
    assert all(sources.held_out(i, 10.0) for i in ids["validation"])


def entries(folder: Path) -> list[str]:
    return [p.name for p in (folder / "cache" / "tokens").glob("*")]


def test_a_failed_build_leaves_no_entry(tmp_path):
    source = write(tmp_path)
    file = tmp_path / "corpus.jsonl"
    file.write_text(file.read_text() + "{broken\n")
    with pytest.raises(UserError, match=r"corpus\.jsonl.*5"):
        build(tmp_path, source)
    assert entries(tmp_path) == []


def test_a_split_without_text_is_an_error_and_leaves_no_entry(tmp_path):
    with pytest.raises(UserError, match="no text in the validation split.*corpus.jsonl"):
        build(tmp_path, write(tmp_path), split="validation")
    assert entries(tmp_path) == []


def test_a_build_that_another_process_finished_first_is_taken_over(tmp_path, monkeypatch):
    source = write(tmp_path)
    write_block = store._write_block

    def slow(folder, texts, tokens):
        monkeypatch.setattr(store, "_write_block", write_block)
        build(tmp_path, source)  # the other process
        return write_block(folder, texts, tokens)

    monkeypatch.setattr(store, "_write_block", slow)
    made = build(tmp_path, source)
    assert entries(tmp_path) == [made.key] and made.counts["documents"] == 3

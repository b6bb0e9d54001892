"""The token store: content, keys, and builds that fail."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from research import bucket
from research.data import block as blocks
from research.data import checksums, files, sources, store, tokenizer
from research.data.config import DataConfig, TokenizerConfig
from research.data.sentences import split_sentences
from research.data.sources import SourceConfig
from research.errors import UserError
from research.run import corpus as corpora
from research.sharding import processes
from tests import helpers

ROOT = Path(__file__).parents[2]
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


def test_documents_without_text_are_told(tmp_path, capsys):
    source = write(tmp_path, (*TEXTS, " \n"))
    made = build(tmp_path, source)
    assert made.block(0).lengths.tolist() == [72, 10, 47, 2], "blanks are text"
    told = f"left out: 1 row, text is empty ({tmp_path}/corpus.jsonl, line 3)"
    assert capsys.readouterr().out == f"{source.name}: {told}\n"


def test_what_is_excluded_is_left_out_by_every_worker_and_counts_in_the_key(tmp_path, capsys):
    held_out = " ".join(f"word{number}" for number in range(13))
    source = write(tmp_path, (*TEXTS[:2], f"It says: {held_out}.", TEXTS[3]))
    (tmp_path / "test.jsonl").write_text(json.dumps({"context": held_out}) + "\n")
    excluding = dataclasses.replace(source, exclude=(f"files:{tmp_path / 'test.jsonl'}",))

    def made(source):
        return store.Job((source,), "train", 0.001, tokenizer.byte_tokenizer(), str(tmp_path))

    sent = pickle.loads(pickle.dumps(made(excluding)))  # as Beam sends it
    assert sent.build(quiet=True).block(0).lengths.tolist() == [72, 10, 47]
    assert "left out: 1 row, shares 13 words on end" in capsys.readouterr().out
    keys = {made(source).key, sent.key}
    (tmp_path / "test.jsonl").write_text(json.dumps({"context": f"{held_out} more"}) + "\n")
    assert len(keys | {made(excluding).key}) == 3


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
    """If this fails, increase store.FORMAT and write the new numbers here."""
    made = build(tmp_path, write(tmp_path))
    block = made.block(0)
    assert store.FORMAT == 3
    assert {name: getattr(block, name).dtype.name for name in blocks.ARRAYS} == {
        "tokens": "uint32",
        "word_starts": "bool",
        "documents": "int64",
        "sentences": "int64",
        "document_sentences": "int64",
        "sources": "int32",
    }
    assert block.documents.tolist() == [0, 72, 82, 129]
    assert block.sentences.tolist() == [0, 11, 34, 68, 72, 82, 110, 129]
    assert block.document_sentences.tolist() == [0, 4, 5, 7]
    assert block.sources.tolist() == [0, 0, 0]
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
    monkeypatch.setattr(blocks, "write", None)  # a second build would fail
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
    write_block = blocks.write

    def slow(*wanted):
        monkeypatch.setattr(blocks, "write", write_block)
        build(tmp_path, source)  # the other process
        return write_block(*wanted)

    monkeypatch.setattr(blocks, "write", slow)
    made = build(tmp_path, source)
    assert entries(tmp_path) == [made.key] and made.counts["documents"] == 3


# Blocks apart


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(store, "BLOCK_BYTES", 300)


def corpus(folder: Path) -> tuple[SourceConfig, ...]:
    """Two sources, one of several files, with copies of documents in and between them."""
    names = [helpers.write_corpus(folder / f"part{n}.jsonl", 15, seed=n) for n in (0, 1, 2)]
    copies = (folder / "part0.jsonl").read_text().splitlines()[:4]
    lines = [json.dumps(json.loads(line) | {"id": f"x{i}"}) for i, line in enumerate(copies)]
    (folder / "part3.jsonl").write_text("\n".join(lines) + "\n")
    other = helpers.write_corpus(folder / "other.jsonl", 12, seed=2)
    return (SourceConfig(names[0].replace("part0", "part*")), SourceConfig(other))


def job(folder: Path, cache: str = "cache", split: str = "train", only: int | None = None):
    sources_ = tuple(SourceConfig(f"files:{folder}/{n}.jsonl") for n in ("part*", "other"))
    tokens = tokenizer.byte_tokenizer()
    return store.Job(sources_, split, 10.0, tokens, str(folder / cache), only)


def content(path: Path) -> dict[str, bytes]:
    """The files of a store's blocks, and its counts."""
    files = [*path.glob("block_*/*.npy"), path / "done.json"]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_any_number_of_shards_in_any_order_makes_the_same_store(tmp_path, small_blocks):
    corpus(tmp_path)
    whole = job(tmp_path, "whole")
    assert whole.make(quiet=True) == []
    expected = content(whole.path)
    blocks_of = whole.opened().blocks
    assert blocks_of > 5
    for shards, order in ((2, (1, 0)), (3, (0, 2, 1)), (blocks_of + 2, range(blocks_of + 2))):
        for index in order:
            job(tmp_path, f"cache{shards}").make(index, shards, quiet=True)
        made = job(tmp_path, f"cache{shards}")
        assert made.key == whole.key and content(made.path) == expected
        assert not list(made.path.glob(f"*{bucket.PART}*"))


def test_a_shard_makes_its_own_blocks_alone(tmp_path, small_blocks):
    corpus(tmp_path)
    made = job(tmp_path)
    missing = made.make(1, 3, quiet=True)
    there = {int(path.name[6:]) for path in made.path.glob("block_*")}
    assert there == set(range(1, made.block_count(), 3))
    assert sorted(there | set(missing)) == list(range(made.block_count()))
    assert made.opened() is None


def test_copies_are_left_out_and_counted(tmp_path, small_blocks):
    corpus(tmp_path)
    counts = {
        split: job(tmp_path, split=split).build(quiet=True).counts
        for split in ("train", "validation")
    }
    # 4 copies of part0, and the 12 documents of "other" that are the first ones of part2.
    assert sum(c["duplicates"] for c in counts.values()) == 16
    assert sum(c["documents"] for c in counts.values()) == 3 * 15
    each = [job(tmp_path, only=n).build(quiet=True).counts for n in (0, 1)]
    for name in ("documents", "tokens", "duplicates", "bytes"):
        assert each[0][name] + each[1][name] == counts["train"][name]


def test_a_store_in_shards_is_not_read_before_it_is_whole(tmp_path, small_blocks):
    corpus(tmp_path)
    made = job(tmp_path)
    made.path.mkdir(parents=True)
    (made.path / "shards").write_text("3")
    with pytest.raises(UserError, match="store of train is being made in 3 shards.*--shard=I/N"):
        job(tmp_path).build(quiet=True)
    missing = made.make(2, 3, quiet=True)
    with pytest.raises(UserError) as error:
        job(tmp_path).build(quiet=True)
    said = str(error.value)
    assert f"lacks {len(missing)} blocks" in said and ": 0, 1, 3, 4, 6" in said
    assert "I/N = 0/3, 1/3;" in said and "launch.py data --config=… --shard=I/N" in said
    made.make(0, 3, quiet=True), made.make(1, 3, quiet=True)
    assert job(tmp_path).build(quiet=True).blocks == made.block_count()


def test_a_block_that_is_lost_is_made_again(tmp_path, small_blocks, capsys):
    corpus(tmp_path)
    made = job(tmp_path)
    made.make(quiet=True)
    expected = content(made.path)
    shutil.rmtree(made.path / "block_00004")
    job(tmp_path).build(quiet=True)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].endswith(
        "block_00004 is damaged (it is gone) and is made again"
    )
    assert content(made.path) == expected
    (made.path / "shards").write_text("3")  # others are to make them
    shutil.rmtree(made.path / "block_00004")
    with pytest.raises(UserError, match=r"lacks 1 blocks in .*: 4;.*--shard=I/N.*I/N = 1/3"):
        job(tmp_path).build(quiet=True)


MUTATIONS = {
    "cut": lambda old: old[: len(old) // 2],
    "longer": lambda old: old + b"\0",
    "first byte": lambda old: bytes([old[0] ^ 1]) + old[1:],
    "last byte": lambda old: old[:-1] + bytes([old[-1] ^ 0x40]),
    "middle": lambda old: old[: len(old) // 2] + b"\xff" + old[len(old) // 2 + 1 :],
    "zeros": lambda old: bytes(len(old)),
    "empty": lambda old: b"",
    "gone": None,
}


def tokens_of(made: store.Store) -> list[bytes]:
    blocks_ = [made.block(number) for number in range(made.blocks)]
    return [np.asarray(getattr(b, name)).tobytes() for b in blocks_ for name in blocks.ARRAYS]


@pytest.mark.parametrize(
    "mutations",
    [("middle", "cut"), pytest.param(tuple(MUTATIONS), marks=pytest.mark.long)],
    ids=["some", "all"],
)
def test_whatever_happens_to_a_file_of_a_store_its_tokens_stay_the_same(
    tmp_path, monkeypatch, capsys, mutations
):
    monkeypatch.setattr(store, "BLOCK_BYTES", 900)
    helpers.write_corpus(tmp_path / "part0.jsonl", 15)
    helpers.write_corpus(tmp_path / "other.jsonl", 5, seed=1)
    data = DataConfig(job(tmp_path).corpus, held_out_percent=10.0, cache=str(tmp_path / "cache"))
    config = TokenizerConfig("byte_bpe", 300)

    def opened() -> store.Store:
        return corpora.jobs(data, corpora.make_tokenizer(config, data))[0].build(quiet=True)

    expected = tokens_of(opened())
    files_ = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert len(files_) > 25 and opened().blocks > 1
    if len(mutations) < len(MUTATIONS):  # one of each kind
        files_ = list({(file.parent.name[:6], file.name[-8:]): file for file in files_}.values())
    capsys.readouterr()
    for file in files_:
        whole = file.read_bytes()
        for name in mutations:
            mutate = MUTATIONS[name]
            file.unlink() if mutate is None else file.write_bytes(mutate(whole))
            assert tokens_of(opened()) == expected, (file, name)
            said = capsys.readouterr().err.splitlines()
            quiet_ = mutate is None or "outlines" in file.parts or file.suffix == ".sum"
            assert len(said) == 1 or quiet_ and not said, (file, name, said)
            if "outlines" not in file.parts:  # they are read when there is no arrangement
                assert not file.exists() or file.read_bytes() == whole, (file, name)
            file.write_bytes(whole)


def test_an_outline_that_is_damaged_is_made_again_where_it_is_read(tmp_path, small_blocks, capsys):
    corpus(tmp_path)
    made = job(tmp_path)
    made.make(quiet=True)
    expected = content(made.path)
    file = next((tmp_path / "cache" / "outlines").rglob("00001.npy"))
    for name in ("middle", "empty"):
        file.write_bytes(MUTATIONS[name](file.read_bytes()))
        shutil.rmtree(made.path)
        job(tmp_path).build(quiet=True)
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 and "00001.npy is damaged" in said[0]
        assert content(made.path) == expected


def test_a_store_without_checksums_gets_them_or_is_made_again(tmp_path, small_blocks, capsys):
    """Stores of earlier versions; ids beyond the vocabulary are detected in them too."""
    corpus(tmp_path)
    made = job(tmp_path)
    made.make(quiet=True)
    expected = tokens_of(made.opened())
    sums = [f for f in made.path.rglob("*") if f.name == checksums.NAME or f.suffix == ".sum"]
    for file in sums:
        file.unlink()
    tokens = made.path / "block_00002" / "tokens.npy"
    np.save(tokens, np.full_like(np.load(tokens), 300))
    capsys.readouterr()
    assert tokens_of(job(tmp_path).build(quiet=True)) == expected
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "it has the id 300, and the vocabulary 258 entries" in said[0]
    assert all(file.exists() for file in sums)


def test_special_tokens_in_a_corpus_are_text_in_a_store_of_an_earlier_version_too(tmp_path, capsys):
    source = write(tmp_path, ("First <|endoftext|> one.", "Second."))
    made = build(tmp_path, source)
    assert 1 not in made.block(0).tokens
    right = tokens_of(made)
    shutil.rmtree(made.path / "block_00000")
    tokens = tokenizer.byte_tokenizer().parsing_special()
    blocks.write(made.path / "block_00000", ["First <|endoftext|> one.", "Second."], [0, 0], tokens)
    assert 1 in blocks.load(made.path / "block_00000").tokens
    (made.path / "block_00000" / checksums.NAME).unlink()
    assert tokens_of(build(tmp_path, source)) == right
    assert "a special token that a text spells out" in capsys.readouterr().err
    assert build(tmp_path, source, tokens=tokens).key != made.key


def test_a_damaged_block_of_a_corpus_that_is_gone_is_an_error_that_says_so(tmp_path, small_blocks):
    corpus(tmp_path)
    made = job(tmp_path).build(quiet=True)
    (made.path / "block_00001" / "tokens.npy").write_bytes(b"")
    (tmp_path / "other.jsonl").unlink()
    with pytest.raises(UserError, match=r"other\.jsonl"):
        made.block(1)


def test_of_several_processes_the_first_makes_a_block_again(tmp_path, small_blocks, monkeypatch):
    corpus(tmp_path)
    made = job(tmp_path).build(quiet=True)
    expected = tokens_of(made)
    file = made.path / "block_00001" / "tokens.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    monkeypatch.setattr(processes, "first", lambda: False)
    monkeypatch.setattr(checksums.time, "sleep", lambda _: file.write_bytes(whole))  # the first
    monkeypatch.setattr(blocks, "write", None)  # a second one that writes would fail
    assert tokens_of(job(tmp_path).build(quiet=True)) == expected


KILLED = """
import os, signal, sys
import numpy as np
from research.data import block, store
from research.data.sources import SourceConfig
from research.data.tokenizer import byte_tokenizer

store.BLOCK_BYTES = 300
save, count = np.save, [0]

def dying(path, array):
    save(path, array)
    count[0] += "block_" in str(path)
    if count[0] == 13:  # the third array of the third block
        os.kill(os.getpid(), signal.SIGKILL)

np.save = dying
folder = sys.argv[1]
corpus = tuple(SourceConfig(f"files:{folder}/{n}.jsonl") for n in ("part*", "other"))
store.Job(corpus, "train", 10.0, byte_tokenizer(), folder + "/cache").make(quiet=True)
"""


def test_nothing_half_written_counts_after_a_kill(tmp_path, small_blocks):
    corpus(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    made = job(tmp_path)
    assert [p.name for p in sorted(made.path.glob("block_?????"))] == ["block_00000", "block_00001"]
    left = list(made.path.glob(f"block_*{bucket.PART}*"))
    assert len(left) == 1
    assert made.opened() is None
    os.utime(left[0], (0, 0))
    before = (made.path / "block_00001" / "tokens.npy").stat().st_mtime_ns
    assert job(tmp_path).build(quiet=True)  # goes on
    assert (made.path / "block_00001" / "tokens.npy").stat().st_mtime_ns == before
    assert not left[0].exists()
    whole = job(tmp_path, "whole")
    whole.make(quiet=True)
    assert content(made.path) == content(whole.path)


def test_two_processes_that_make_the_same_shard_do_not_disturb_each_other(tmp_path, small_blocks):
    corpus(tmp_path)
    jobs = [job(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda made: made.make(0, 1, quiet=True), jobs)) == [[]] * 4
    whole = job(tmp_path, "whole")
    whole.make(quiet=True)
    assert content(jobs[0].path) == content(whole.path)
    assert not list(jobs[0].path.glob(f"*{bucket.PART}*"))


def test_what_another_process_is_writing_stays(tmp_path, small_blocks, monkeypatch):
    """Another process finishes the same block first, and removes nothing that this one needs."""
    corpus(tmp_path)
    slow, quick = job(tmp_path), job(tmp_path)
    add, first = checksums._add_sums, []

    def overtaken(part):
        add(part)
        if part.name.startswith("block_") and not first:
            first.append(part)
            quick.make(quiet=True)
            assert quick.opened() and part.is_dir()

    monkeypatch.setattr(checksums, "_add_sums", overtaken)
    assert slow.make(quiet=True) == [] and first
    assert content(slow.path) == content(job(tmp_path).build(quiet=True).path)


def test_no_more_files_are_open_than_there_are_sources(tmp_path, small_blocks, monkeypatch):
    for number in range(30):
        helpers.write_corpus(tmp_path / f"part{number}.jsonl", 3, seed=number)
    helpers.write_corpus(tmp_path / "other.jsonl", 3, seed=99)
    open_now, most = set(), [0]
    opened = Path.open

    def counted(path, *given, **more):
        file = opened(path, *given, **more)
        if path.suffix == ".jsonl":
            open_now.add(file)
            open_now.difference_update([f for f in open_now if f.closed])
            most[0] = max(most[0], len(open_now))
        return file

    monkeypatch.setattr(Path, "open", counted)
    assert job(tmp_path).make(quiet=True) == []
    assert 1 <= most[0] <= 3


def test_a_large_source_is_known_by_names_sizes_and_times(tmp_path, monkeypatch):
    source = write(tmp_path)
    file = tmp_path / "corpus.jsonl"
    monkeypatch.setattr(files, "LARGE", 10)
    monkeypatch.setattr(files, "content_hash", None)  # nothing is opened
    keys = [sources.fingerprint(source)]
    assert sources.fingerprint(source) == keys[0]
    os.utime(file, (1, file.stat().st_mtime + 60))
    keys.append(sources.fingerprint(source))
    text = file.read_text()
    changed = file.stat().st_mtime
    file.write_text(text + "\n")
    os.utime(file, (1, changed))
    keys.append(sources.fingerprint(source))
    assert len(set(keys)) == 3

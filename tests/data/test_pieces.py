"""Long texts are tokenised in pieces, with the same result as in one."""

import functools
import time

import numpy as np
import pytest
import tokenizers as library
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, trainers

from research.data import encoding as encodings
from research.data import pieces, sources, tokenizer
from research.data.sentences import split_sentences
from research.data.sources import SourceConfig
from research.data.tokenizer import Tokenizer

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
OTHER = (  # scripts, signs and blanks that the bundled English has not
    "Что это — фильм? Да, 12 раз.\nÇa alors: un été très long ; «voilà», dit-il. "
    "王小明住在北京。他喜歡看電影。\n這部電影很好。我們都喜歡。 नमस्ते दुनिया। e\u0301te\u0301 "
    "def f(x):\n\treturn  x + 1\n\n\n# done   \n 🙂👍🏽 a\u200bb [MASK] <|endoftext|> it's we'll\n"
)


@functools.cache
def text() -> str:
    read = sources.read(SourceConfig("bundled:corpus/brown", take=2), "document")
    parts = [document["text"][:6000] for document in read]
    return "".join(f"{part}\n{OTHER}" for part in parts)


def learnt(model, trainer, pre_tokenizer=None, normalizer=None) -> library.Tokenizer:
    inner = library.Tokenizer(model)
    if normalizer:
        inner.normalizer = normalizer
    if pre_tokenizer:
        inner.pre_tokenizer = pre_tokenizer
    lines = [line for line in text().split("\n") if line]
    inner.train_from_iterator(lines, trainer)
    return inner


def bpe(pre_tokenizer=None, normalizer=None) -> library.Tokenizer:
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False, special_tokens=["<unk>"])
    return learnt(models.BPE(unk_token="<unk>"), trainer, pre_tokenizer, normalizer)


def unigram(normalizer=None) -> library.Tokenizer:
    trainer = trainers.UnigramTrainer(
        vocab_size=400, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"]
    )
    return learnt(models.Unigram(), trainer, pre_tokenizers.Metaspace(), normalizer)


def with_added(token: AddedToken) -> library.Tokenizer:
    inner = library.Tokenizer.from_str(byte_bpe().library_json())
    inner.add_tokens([token])
    return inner


def byte_bpe() -> Tokenizer:
    return tokenizer.train_byte_bpe(text().split("\n"), 500)


def llama_3() -> library.Tokenizer:
    split = pre_tokenizers.Split(Regex(LLAMA_3), behavior="isolated")
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return bpe(pre_tokenizers.Sequence([split, levels]))


# name -> tokenizer, and whether pieces are short (else only words are not cut)
KINDS = {
    "wordpiece": (lambda: tokenizer.train_wordpiece(text().split("\n"), 800), True),
    "uncased": (lambda: tokenizer.train_wordpiece(text().split("\n"), 800, True), True),
    "byte BPE": (byte_bpe, True),
    "bytes": (tokenizer.byte_tokenizer, True),
    "characters": (lambda: tokenizer.characters([text()]), True),
    "prefix space": (lambda: bpe(pre_tokenizers.ByteLevel(add_prefix_space=True)), True),
    "Llama 3": (llama_3, True),
    "Unigram": (unigram, True),
    "Unigram, NFKC": (lambda: unigram(normalizers.NFKC()), True),
    "Strip": (lambda: unigram(normalizers.Strip()), False),
    "Gemma": (lambda: bpe(normalizer=normalizers.Replace(" ", "▁")), False),
    "Llama 2": (
        lambda: bpe(
            normalizer=normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
        ),
        False,
    ),
    "added words": (lambda: with_added(AddedToken("of the")), False),
    "added word": (lambda: with_added(AddedToken("the", rstrip=True)), False),
}


@pytest.mark.parametrize("name", KINDS)
def test_pieces_give_the_tokens_places_and_words_of_the_whole(name, monkeypatch):
    make, short = KINDS[name]
    made = make()
    made = made if isinstance(made, Tokenizer) else Tokenizer(made)
    wholes = []
    for parse in (True, False):
        made._inner.encode_special_tokens = not parse
        found = made._inner.encode(text(), add_special_tokens=False)
        wholes.append(encodings.of_library(text(), found))
    monkeypatch.setattr(pieces, "SIZE", 50)
    spans = list(pieces.cuts(text(), pieces.places(made._inner)))
    assert "".join(text()[start:end] for start, end in spans) == text()
    assert (len(spans) > len(text()) / 200) if short else len(spans) < len(text()) / 200
    for tokenizer_, whole in zip((made.parsing_special(), made), wholes, strict=True):
        for ours, right in zip(tokenizer_.encode(text()), whole, strict=True):
            assert ours.dtype == right.dtype and np.array_equal(ours, right)


def test_chinese_is_cut_at_its_full_stops(monkeypatch):
    monkeypatch.setattr(pieces, "SIZE", 50)
    long = "王小明住在北京。他喜歡看電影。" * 30
    made = byte_bpe()
    spans = list(pieces.cuts(long, pieces.places(made._inner)))
    assert len(spans) > 8
    right = encodings.of_library(long, made._inner.encode(long, add_special_tokens=False))
    assert all(map(np.array_equal, made.encode(long), right))


def test_a_word_without_an_end_is_cut_and_told_once(monkeypatch, capsys):
    monkeypatch.setattr(pieces, "SIZE", 50)
    monkeypatch.setattr(pieces, "MOST", 200)
    pieces._warn.cache_clear()
    made = tokenizer.byte_tokenizer()
    for _ in range(2):
        found = made.encode("x" * 1000 + " end")
        assert len(found.ids) == 1004 and found.ends[-1] == 1004
        assert len(np.unique(found.words)) == 6  # 5 of what is one word
    assert capsys.readouterr().err.count("no clear border of words within 200 characters") == 1


def test_a_vocabulary_is_learnt_from_long_words_in_parts_which_is_told(capsys):
    words = np.random.default_rng(0).integers(ord("a"), ord("k"), 200_000).astype(np.uint8)
    long = words.tobytes().decode()
    start = time.process_time()
    made = tokenizer.train_byte_bpe(["some words", long, "=" * 5000, "a" + " " * 5000 + "b"], 400)
    assert time.process_time() - start < 20  # in one it is minutes
    assert made.vocab_size == 400
    assert "3 words or runs of symbols of more than 1,000 characters" in capsys.readouterr().err
    texts = [text()]
    assert pieces.to_learn(texts) == texts  # as it was


@pytest.mark.parametrize("row", [".", "!", "…", "?!", '"', '."', "(a ", "A.", " \n"])
def test_a_row_of_signs_is_split_in_time_by_its_length(row):
    start = time.process_time()
    split_sentences(f"A row: {row * 30_000} and an end.")
    assert time.process_time() - start < 4  # by the square of its length it was 50 s

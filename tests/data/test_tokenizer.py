"""Tokenizers: offsets into the text, exact round trips, deterministic training, loading."""

import json
import os
import random
import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import tokenizers as library

from research.data import tokenizer as tokenizers
from research.data import tokenizer_files
from research.data.encoding import bytes_of
from research.data.sources import SourceConfig, read
from research.data.special_tokens import Templated
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from tests.convert.folders import SENTENCE_PIECES

ODD = "Café  naïve 😀👩\u200d👧 xyz,\tZürich!\n\n don't 中文 \u200b e\u0301 [MASK] <|endoftext|>"


@pytest.fixture(scope="module")
def texts():
    found = [e["text"] for e in read(SourceConfig("bundled:corpus/brown", take=30), "document")]
    return [*found, "Café naïve Zürich don't < > | [ ]", "Café naïve Zürich"]


@pytest.fixture(scope="module")
def made(texts):
    """Every kind of tokenizer."""
    return {
        "wordpiece": tokenizers.train_wordpiece(texts, 1000),
        "uncased": tokenizers.train_wordpiece(texts, 1000, lowercase=True),
        "bpe": tokenizers.train_byte_bpe(texts, 1000),
        "characters": tokenizers.characters(texts),
        "bytes": tokenizers.byte_tokenizer(),
    }


ALL = ("wordpiece", "uncased", "bpe", "characters", "bytes")


def random_text(rng, length):
    """Any Unicode but surrogates, with much of what breaks tokenizers."""
    pieces = [*"aZéß \n\t😀中.١[Ġ", "e\u0301", "İ", "  ", "\r\n", "'s", "##"]
    pieces += [*"\u200b\ufeff\x00\ufffd\u2028\U0010ffff"]
    out = []
    for _ in range(length):
        code = rng.randrange(0x110000)
        wild = rng.random() < 0.2 and not 0xD800 <= code < 0xE000
        out.append(chr(code) if wild else rng.choice(pieces))
    return "".join(out)


# --- special tokens


def test_special_ids_are_fixed(made):
    for name in ("wordpiece", "uncased"):
        t = made[name]
        assert (t.pad, t.unk, t.cls, t.sep, t.mask, t.bos, t.eos) == (0, 1, 2, 3, 4, None, None)
        assert t.special_ids == {0, 1, 2, 3, 4}
    for name in ("bpe", "characters", "bytes"):
        t = made[name]
        assert (t.pad, t.eos, t.bos, t.cls, t.sep, t.mask) == (0, 1, 1, None, None, None)
    assert made["bpe"].special_ids == made["bytes"].special_ids == {0, 1}
    assert made["characters"].unk == 2 and made["characters"].special_ids == {0, 1, 2}


def test_sizes(made, texts):
    sizes = {name: t.vocab_size for name, t in made.items()}
    known = {"wordpiece": 1000, "uncased": 1000, "bpe": 1000, "bytes": 258}
    assert sizes == {**known, "characters": 3 + len(set("".join(texts)))}


def test_require_names_what_is_missing_and_why(made):
    assert made["wordpiece"].require("mask", "masked LM") == 4
    with pytest.raises(UserError, match=r"no mask token \(masked LM\); .*\[MASK\]"):
        made["bpe"].require("mask", "masked LM")


def test_a_special_token_in_a_text_is_text(made):
    """As with `split_special_tokens` of transformers, where entries give the same ids."""
    for name, special in (("wordpiece", "[MASK]"), ("uncased", "[SEP]"), ("bpe", "<|endoftext|>")):
        t = made[name]
        for text in (special, f"the {special}.", f"{special}{special} end"):
            for found in (t.encode(text), t.encode_batch([text])[0], t.encode_words(text.split())):
                assert not t.special_ids.difference([t.unk]).intersection(found.ids.tolist())
    bytes_ = made["bytes"].encode("<|pad|>").ids
    assert bytes_.tolist() == [byte + 2 for byte in b"<|pad|>"]


def test_a_special_token_in_a_text_is_one_token_where_that_is_asked_for(made):
    t = made["wordpiece"].parsing_special()
    ids = t.encode("the [MASK].").ids
    assert list(ids).count(t.mask) == 1 and t.decode(ids) == "the."
    assert t.decode(ids, skip_special=False) == "the [MASK]."
    assert t.mask in made["uncased"].parsing_special().encode("The [MASK]").ids
    again = Tokenizer.from_json(t.to_json()).with_tokens(["<new>"])
    assert again.parse_special and again.encode("<new>").ids.tolist() == [again.vocab_size - 1]
    assert t.fingerprint() != made["wordpiece"].fingerprint()
    assert "parse_special" not in made["wordpiece"].to_json()  # stores keep their keys


def test_the_control_characters_of_a_template_alone_are_special(made):
    t = made["wordpiece"]
    text = "the [MASK] and [SEP] the [MASK]."
    spans = [match.span() for match in re.finditer(re.escape("[MASK]"), text)]
    found = t.encode(Templated.of(text, spans))
    parts = ["the ", " and [SEP] the ", "."]
    expected = list(t.encode(parts[0]).ids)
    for part in parts[1:]:
        expected += [t.mask, *t.encode(part).ids]
    assert found.ids.tolist() == expected and t.sep not in expected
    assert [text[a:b] for a, b in zip(found.starts, found.ends, strict=True)].count("[MASK]") == 2
    assert (np.diff(found.words) >= 0).all()
    # Where nothing else is spelled out the template is tokenised in one.
    plain = "the [MASK] and the [MASK]."
    spans = [match.span() for match in re.finditer(re.escape("[MASK]"), plain)]
    right = t.parsing_special().encode(plain)
    assert all(map(np.array_equal, t.encode(Templated.of(plain, spans)), right))
    assert t.encode(Templated.of(text, spans).since(4)).ids[0] == t.mask


def test_nothing_is_put_around_a_text(made):
    for t in made.values():
        assert [t.token(i) for i in t.encode("a").ids] == ["a"]
        assert all(len(part) == 0 for part in t.encode(""))


# --- offsets and words


@pytest.mark.parametrize("name", ALL)
def test_offsets_refer_to_the_text(made, name):
    t = made[name]
    e = t.encode(ODD)
    assert all(a.dtype == np.int32 and len(a) == len(e.ids) for a in e)
    assert np.all(e.starts >= 0) and np.all(e.ends <= len(ODD)) and np.all(e.starts <= e.ends)
    assert np.all(np.diff(e.starts) >= 0) and np.all(np.diff(e.words) >= 0)
    for i, start, end in zip(e.ids, e.starts, e.ends, strict=True):
        token, piece = t.token(i), ODD[start:end]
        if i == t.unk or token == piece:
            continue
        if name == "wordpiece":
            assert piece == token.removeprefix("##")
        elif name == "uncased":
            plain = unicodedata.normalize("NFD", piece).lower()
            assert "".join(c for c in plain if not unicodedata.combining(c)) == (
                token.removeprefix("##")
            )
        else:  # a piece of a character has the place of the whole character
            assert t.decode([i]) == piece or (len(piece) == 1 and len(piece.encode()) > 1)


def test_offsets_of_some_words(made):
    text = "  Café   Zürich 😀 don't"
    for name in ("wordpiece", "uncased"):
        e = made[name].encode(text)
        spans = {}
        for word, start, end in zip(e.words, e.starts, e.ends, strict=True):
            first, _ = spans.get(word, (start, end))
            spans[word] = (first, end)
        slices = [text[start:end] for start, end in spans.values()]
        assert slices == ["Café", "Zürich", "😀", "don", "'", "t"]
        assert list(spans) == list(range(6))


@pytest.mark.parametrize("name", ["bpe", "characters", "bytes"])
def test_lossless_tokenizers_cover_every_character(made, name):
    e = made[name].encode(ODD)
    covered = set()
    for start, end in zip(e.starts, e.ends, strict=True):
        covered |= set(range(start, end))
    assert covered == set(range(len(ODD)))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("by Rene\u0301 in", "Rene\u0301"),
        ("by Rene\u0301", "Rene\u0301"),
        ("by Rene\u0301\u0327\ufe0f in", "Rene\u0301\u0327\ufe0f"),
        ("by rene\u00ad\u200d, in", "rene\u00ad\u200d"),
        ("by rene\u200bin", "rene"),
        ("by \u0301rene in", "rene"),
        ("by René in", "René"),
    ],
)
def test_a_place_holds_the_marks_that_a_normalizer_drops(text, word):
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "by", "rene", "in", ",", "##in"]
    t = tokenizers.word_pieces({w: i for i, w in enumerate(entries)}, lowercase=True)
    for e in (t.encode(text), t.encode_batch([text])[0]):
        at = e.ids.tolist().index(6)
        assert text[e.starts[at] : e.ends[at]] == word
        assert np.all(e.starts[1:] >= e.ends[:-1]) and e.ends[-1] == len(text)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("a b", [1, 2]), ("a\nb", [1, 1, 1]), ("b é", [1, 1, 2]), ("é", [2, 0]), ("", [])],
)
def test_bytes_are_counted_by_the_text(text, sizes):
    t = Tokenizer.from_json(json.dumps(SENTENCE_PIECES))
    assert bytes_of(text, t.encode(text)).tolist() == sizes


def test_words_of_the_simple_tokenizers_are_more_than_characters(made):
    for name in ("characters", "bytes"):
        assert list(made[name].encode("the cat").words) == [0, 0, 0, 1, 1, 1, 1]


def test_byte_lengths_add_up_to_the_text(made, texts):
    for name in ("bpe", "characters", "bytes"):
        lengths = made[name].byte_lengths()
        assert lengths[made[name].encode(texts[0]).ids].sum() == len(texts[0].encode())
    lengths = made["wordpiece"].byte_lengths()[
        made["wordpiece"].parsing_special().encode("Café the [MASK]").ids
    ]
    assert lengths.sum() == len("Caféthe".encode())


def test_bytes_of_any_text_add_up(made):
    rng = random.Random(4)
    for text in [ODD, *(random_text(rng, 30) for _ in range(100))]:
        for t in made.values():
            encoding = t.encode(text)
            sizes = bytes_of(text, encoding)
            assert len(sizes) == len(encoding.ids) and np.all(sizes >= 0)
            assert sizes.sum() == len(text.encode()) or not len(sizes)


def test_declared_roles_are_in_the_json(made):
    t = Tokenizer(
        library.Tokenizer.from_str(made["bpe"].to_json()), {"bos": "<|pad|>", "pad": None}
    )
    again = Tokenizer.from_json(t.to_json()).with_tokens(["[MASK]"])
    assert (again.bos, again.pad, again.eos, again.token(again.mask)) == (0, None, 1, "[MASK]")
    assert library.Tokenizer.from_str(t.library_json()).get_vocab_size() == t.vocab_size


def test_a_batch_is_each_text_alone(made, texts):
    some = [*texts[:5], "", ODD]
    for t in made.values():
        for one, many in zip(map(t.encode, some), t.encode_batch(some), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_given_words_keep_their_index(made, name):
    t = made[name]
    words = ["Zürich", ",", "don't", "a  b", "😀", "\u200b", " ", "İ", "[", "x" * 300, "<|pad|>"]
    e = t.encode_words(words)
    assert sorted(set(e.words)) == list(range(len(words)))
    assert np.all(np.diff(e.words) >= 0)
    for index, word in enumerate(words):
        first = int(np.argmax(e.words == index))
        begin = len(" ".join(words[:index])) + (index > 0)
        assert e.starts[first] <= begin + len(word) - len(word.lstrip())  # its first character …
        assert e.ends[first] > begin or not word.strip()  # … is in its first token


def test_given_words_are_cut_as_in_running_text(made, texts):
    for t in made.values():
        words = texts[0].split()[:200]
        assert np.array_equal(t.encode_words(words).ids, t.encode(" ".join(words)).ids)


def test_a_word_without_a_token_becomes_unknown_or_an_error(made):
    t = made["wordpiece"]
    e = t.encode_words(["a", "\u200b", "b"])
    assert list(e.words) == [0, 1, 2] and e.ids[1] == t.unk
    assert (e.starts[1], e.ends[1]) == (2, 3)
    assert list(t.encode_words(["\u200b"]).ids) == [t.unk]
    with pytest.raises(UserError, match="number 1"):
        made["bytes"].encode_words(["a", ""])


def test_given_words_at_random(made):
    rng = random.Random(3)
    for _ in range(100):
        words = [random_text(rng, rng.randrange(1, 6)) for _ in range(rng.randrange(1, 8))]
        for t in made.values():
            e = t.encode_words(words)
            assert set(e.words) == set(range(len(words)))
            assert np.all(np.diff(e.words) >= 0)


# --- round trips


@pytest.mark.parametrize("name", ["bpe", "bytes"])
def test_any_text_comes_back(made, name):
    t = made[name]
    rng = random.Random(0)
    for text in [ODD, "", " ", "Ġ", *(random_text(rng, 60) for _ in range(300))]:
        assert t.decode(t.encode(text).ids, skip_special=False) == text


def test_bytes_are_utf8_plus_two(made):
    for text in ("abc", "é😀\x00\n", "".join(map(chr, range(256)))):
        assert list(made["bytes"].encode(text).ids) == [byte + 2 for byte in text.encode()]


def test_characters_come_back_where_they_are_known(made, texts):
    t = made["characters"]
    rng = random.Random(1)
    known = sorted(set("".join(texts)))
    for text in [texts[0], *("".join(rng.choices(known, k=80)) for _ in range(200))]:
        e = t.encode(text)
        assert len(e.ids) == len(text) and t.decode(e.ids, skip_special=False) == text
    assert list(t.encode("a😀").ids) == [t.encode("a").ids[0], t.unk]


def test_wordpiece_comes_back_but_for_spacing(made):
    text = "The Café in Zürich is good, he said."
    t = made["wordpiece"]
    assert t.decode(t.encode(text).ids) == text
    assert made["uncased"].decode(made["uncased"].encode(text).ids) == (
        "the cafe in zurich is good, he said."
    )
    rng = random.Random(2)
    for _ in range(200):
        ids = [i for i in t.encode(random_text(rng, 40)).ids if i not in t.special_ids]
        assert list(t.encode(t.decode(ids)).ids) == ids


def test_json_is_the_whole_tokenizer(made):
    for t in made.values():
        again = Tokenizer.from_json(t.to_json())
        assert again.to_json() == t.to_json() and again.fingerprint() == t.fingerprint()
        assert again.special_ids == t.special_ids and again.vocab_size == t.vocab_size
        assert np.array_equal(again.encode(ODD).ids, t.encode(ODD).ids)
        assert again.decode(again.encode(ODD).ids) == t.decode(t.encode(ODD).ids)


@pytest.mark.parametrize("wrong", [1000, -1])
def test_an_id_outside_has_no_token(made, wrong):
    with pytest.raises(IndexError, match=str(wrong)):
        made["bpe"].token(wrong)


# --- training

TRAIN = """
import sys
from research.data import tokenizer
from research.data.sources import SourceConfig, read
texts = [e["text"] for e in read(SourceConfig("bundled:corpus/moby_dick", take=40), "document")]
print(tokenizer.train_wordpiece(iter(texts), 2000).fingerprint())
print(tokenizer.train_wordpiece(texts, 2000, lowercase=True).fingerprint())
print(tokenizer.train_byte_bpe(iter(texts), 2000).fingerprint())
print(tokenizer.characters(texts).fingerprint())
# More letters than the alphabet holds, many of them equally frequent.
letters = [chr(code) for code in range(0x0400, 0x0B00) if chr(code).isalpha()]
print(tokenizer.train_wordpiece([" ".join(letters), "".join(letters)], 2100).fingerprint())
"""


def test_training_is_the_same_in_every_process_and_with_any_number_of_threads():
    def train(threads):
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", TRAIN]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    running = [train(threads) for threads in ("1", "2", "4")]
    printed = [process.communicate()[0].split() for process in running]
    assert len(set(printed[0])) == 5
    assert printed[0] == printed[1] == printed[2]


def test_training_learns_words(made):
    assert [made["wordpiece"].token(i) for i in made["wordpiece"].encode("the").ids] == ["the"]
    assert [made["bpe"].token(i) for i in made["bpe"].encode(" the").ids] == ["Ġthe"]


def test_every_byte_is_in_a_trained_bpe():
    t = tokenizers.train_byte_bpe(["aaaa aaaa"], 300)
    everything = "".join(chr(c) for c in range(0x3000) if not 0xD800 <= c < 0xE000)
    assert t.decode(t.encode(everything).ids) == everything
    assert t.vocab_size < 300  # so few texts have no more to merge


def test_training_without_text_or_room_is_an_error():
    for train in (tokenizers.train_wordpiece, tokenizers.train_byte_bpe):
        with pytest.raises(UserError, match="no text"):
            train([" ", ""], 1000)
        with pytest.raises(UserError, match="vocab_size 20 is too small"):
            train(["some text of letters"], 20)
    with pytest.raises(TypeError):
        tokenizers.characters("one string")


# --- loading

CASED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Caf", "##é", "the", "cat", "\u2028", "."]
UNCASED = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "the", "cat"]


def write_vocab(path, lines):
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def test_vocab_txt_shows_whether_it_is_cased(tmp_path):
    t = tokenizer_files.load(write_vocab(tmp_path / "vocab.txt", CASED))
    assert [t.token(i) for i in t.encode("Café the.").ids] == ["Caf", "##é", "the", "."]
    assert t.vocab_size == len(CASED) and t.mask == 4
    t = tokenizer_files.load(write_vocab(tmp_path / "uncased.txt", UNCASED))
    assert [t.token(i) for i in t.encode("Café THE").ids] == ["cafe", "the"]
    assert (t.pad, t.unk, t.cls) == (0, 2, 3)
    (tmp_path / "cased").mkdir()
    write_vocab(tmp_path / "cased" / "vocab.txt", UNCASED)
    (tmp_path / "cased" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    t = tokenizer_files.load(tmp_path / "cased")
    assert [t.token(i) for i in t.encode("Café the").ids] == ["[UNK]", "the"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(CASED[:9]).encode())
    assert tokenizer_files.load(tmp_path).vocab_size == 9


def test_every_layout_loads_from_its_folder_or_a_file(tmp_path, made):
    t = made["bpe"]
    model = json.loads(t.to_json())["model"]
    merges = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]) + "\n"
    for folder, vocab_name, merges_name in (
        ("gpt2", "encoder.json", "vocab.bpe"),
        ("roberta", "vocab.json", "merges.txt"),
    ):
        there = tmp_path / folder
        there.mkdir()
        (there / vocab_name).write_text(json.dumps(model["vocab"]))
        (there / merges_name).write_text(merges)
        for path in (there, there / vocab_name, there / merges_name):
            assert tokenizer_files.load(path).to_json() == t.to_json()
    for name in ("tokenizer.json", "by_another_name.json"):
        (tmp_path / name).write_text(t.to_json())
        assert tokenizer_files.load(tmp_path / name).to_json() == t.to_json()
    assert tokenizer_files.load(tmp_path).to_json() == t.to_json()


def test_special_tokens_are_found_by_the_names_of_other_families(tmp_path):
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocab = {token: i for i, token in enumerate([*names, "a", "b"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    t = tokenizer_files.load(tmp_path)
    assert (t.cls, t.pad, t.sep, t.unk, t.mask, t.bos, t.eos) == (0, 1, 2, 3, 4, 0, 2)
    assert t.special_ids == {0, 1, 2, 3, 4}
    assert list(t.parsing_special().encode("a<mask>b").ids) == [5, 4, 6]
    for again in (t, Tokenizer.from_json(t.to_json())):
        assert again.frame(1).ids == ((0,), (2,)) and again.frame(2).ids == ((0,), (2, 2), (2,))


def test_a_frame_is_that_of_the_tokenizer_itself(made):
    pair = made["wordpiece"].frame(2)
    assert pair.ids == ((2,), (3,), (3,)) and pair.types == ((0,), (0,), (1,))
    assert made["bpe"].frame(2).ids == ((1,), (1,), (1,)), "end-of-text tokens"
    values = json.loads(made["wordpiece"].to_json())
    cls, sep = (["[CLS]", made["wordpiece"].cls], ["[SEP]", made["wordpiece"].sep])
    for kind, count in (("BertProcessing", 1), ("RobertaProcessing", 2)):
        frame = {"type": kind, "sep": sep, "cls": cls}
        if kind == "RobertaProcessing":
            frame |= {"trim_offsets": True, "add_prefix_space": False}
        t = Tokenizer.from_json(json.dumps(values | {"post_processor": frame}))
        assert t.frame(2).ids == ((2,), (3,) * count, (3,))
        assert t.frame(2).text_types == ((0, 1) if kind == "BertProcessing" else (0, 0))


def test_truncation_and_padding_of_a_loaded_file_are_off(made):
    raw = library.Tokenizer.from_str(made["bpe"].to_json())
    raw.enable_truncation(4)
    raw.enable_padding(length=8)
    t = Tokenizer.from_json(raw.to_str())
    assert t.decode(t.encode("a" * 50).ids) == "a" * 50
    assert t.to_json() == made["bpe"].to_json()


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("vocab.txt", "a\nb\n", "no line [UNK]"),
        ("tokenizer.json", '{"version": "1.0"', "not a tokenizer.json"),
        ("encoder.json", "{}", "vocab.bpe is missing"),
        ("merges.txt", "a b\n", "vocab.json is missing"),
        ("spiece.model", "x", "expected a tokenizer.json"),
    ],
)
def test_a_faulty_file_is_named(tmp_path, name, content, part):
    (tmp_path / name).write_text(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UserError) as caught:
            tokenizer_files.load(path)
        assert part in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_faulty_bpe_and_a_missing_path_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.*no such file"):
        tokenizer_files.load(tmp_path / "nowhere")
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(UserError, match="vocab.json.*not a byte-level BPE"):
        tokenizer_files.load(tmp_path)
    (tmp_path / "other.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match="other.txt: not UTF-8"):
        tokenizer_files.load(tmp_path / "other.txt")

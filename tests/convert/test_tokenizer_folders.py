"""A folder's tokenizer settings are followed; the expected values are of transformers 5.23.0."""

import json
import math
from pathlib import Path

import pytest
import tokenizers as library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from research import cli
from research.data import tokenizer_files
from research.data.batch import framed
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from tests.convert.folders import BERT_NAMES, FOLDERS, ROBERTA_PAIRS, SENTENCE_PIECES, build

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")


def ids(tokenizer, *texts):
    encode = tokenizer.parsing_special().encode  # as the reference does unless it is told
    return framed(tokenizer, [encode(text).ids for text in texts], 99).tokens.tolist()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """name of FOLDERS -> the folder of the imported checkpoint."""
    root = tmp_path_factory.mktemp("folders")

    def get(name):
        if not (root / name).exists():
            source = build(FOLDERS[name], root / "public" / name)
            assert cli.main(["import", f"--source={source}", f"--output={root / name}"]) == 0
        return str(root / name)

    (root / "public").mkdir()
    return get


# The whole way: import, predict, generate, export


@pytest.mark.parametrize(
    ("name", "text", "probabilities"),
    [
        ("gemma_cls", "w0 w1 w2 w3", [0.201797, 0.711725, 0.086478]),
        ("gpt2_cls", "w0 w1 w2 w3", [0.357423, 0.160511, 0.482066]),
        pytest.param("added_tokens", "great film @user url", [0.325642, 0.163684, 0.510674],
                     marks=pytest.mark.long),
        pytest.param("strip_accents", "Más es war schön", [0.334378, 0.160553, 0.505069],
                     marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_a_classifier_answers_as_the_reference(imported, tmp_path, name, text, probabilities):
    found = predicted(imported(name), tmp_path, text)["probabilities"]
    assert list(found.values()) == pytest.approx(probabilities, abs=2e-6)


@pytest.mark.parametrize(
    ("name", "text", "best"),
    [
        ("gemma_mlm", "w0 w1 <mask> w3", {"w18": 0.087333, "w25": 0.052757, "w0": 0.049663}),
        ("mask_blank", "a <mask> b c", {"x16": 0.166084, "</s>": 0.081194, "x6": 0.067362}),
    ],
)
def test_a_mask_is_filled_as_by_the_reference(imported, tmp_path, name, text, best):
    found = predicted(imported(name), tmp_path, text)["masks"][0][:3]
    assert {choice["token"]: choice["probability"] for choice in found} == pytest.approx(
        best, abs=2e-6
    )


def predicted(checkpoint, folder, text):
    (folder / "in.jsonl").write_text(json.dumps({"text": text}) + "\n")
    flags = [f"--input={folder / 'in.jsonl'}", f"--output={folder / 'out.jsonl'}"]
    assert cli.main(["predict", f"--checkpoint={checkpoint}", *flags]) == 0
    return json.loads((folder / "out.jsonl").read_text())


def test_a_prompt_begins_as_the_tokenizer_begins_a_text(imported, capsys):
    flags = ["--prompt=w0 w1 w2 w3", "--temperature=0", "--max_tokens=6"]
    assert cli.main(["generate", f"--checkpoint={imported('llama_lm')}", *flags]) == 0
    assert "w0 w1 w2 w3 w15 w4 w18 w1 w6 w8\n" in capsys.readouterr().out


@pytest.mark.long
def test_bits_per_byte_are_those_of_the_texts(imported):
    checkpoint = imported("spm_lm")
    flags = ["--config.data.length=32", "--config.train.batch_size=1024"]
    corpus = '--config.data.corpus=["bundled:corpus/factbook_background"]'
    assert cli.main(["evaluate", f"--checkpoint={checkpoint}", *flags, corpus]) == 0
    metrics = json.loads((Path(checkpoint) / "evaluation_validation.json").read_text())["metrics"]
    targets, of_texts = 2_633 + 6, 6_681  # tokens and ends of six documents, and their UTF-8 bytes
    bits = metrics["loss"] / math.log(2) * targets
    assert metrics["bits_per_byte"] == pytest.approx(bits / of_texts, rel=1e-5)


def test_frame_and_roles_leave_with_the_export(imported, tmp_path):
    for name in ("gemma_cls", "gpt2_cls"):
        flags = [f"--checkpoint={imported(name)}", f"--output={tmp_path / name}"]
        assert cli.main(["export", *flags]) == 0
        before = FOLDERS[name].files
        written = json.loads((tmp_path / name / "tokenizer.json").read_text())
        first = library.Tokenizer.from_str(json.dumps(before["tokenizer.json"]))
        again = library.Tokenizer.from_str(json.dumps(written))
        for texts in (("w0",), ("w0 w1", "w2")):
            assert again.encode(*texts).ids == first.encode(*texts).ids
            assert again.encode(*texts).type_ids == first.encode(*texts).type_ids
        settings = json.loads((tmp_path / name / "tokenizer_config.json").read_text())
        theirs = before["tokenizer_config.json"]
        assert {k: v for k, v in settings.items() if k.endswith("_token")} == {
            k: v for k, v in theirs.items() if k.endswith("_token")
        }


# Ids


VOCAB = [
    *BERT_NAMES,
    "Cat",
    "cat",
    "Más",
    "mas",
    "más",
    "x",
    "@user",
    *(f"w{i}" for i in range(29)),
]
PAIRS = ["<|endoftext|>", "a", "b", "Ġ", "Ġa", "Ġb", "1", "2", "12", *(f"x{i}" for i in range(32))]
MERGES = [("Ġ", "a"), ("Ġ", "b"), ("1", "2")]
FRAME = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
LINES = "\n".join(VOCAB)
GPT2 = {
    "vocab.json": {word: number for number, word in enumerate(PAIRS)},
    "merges.txt": "#version: 0.2\n" + "\n".join(map(" ".join, MERGES)) + "\n",
}
PLAIN = dict(lstrip=False, rstrip=False, normalized=False, single_word=False, special=False)


def pieces(lowercase, frame=FRAME, digits=False):
    """A tokenizer.json of WordPiece, or of byte pairs that cuts digits."""
    if digits:
        made = library.Tokenizer(models.BPE(vocab=GPT2["vocab.json"], merges=MERGES))
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        made.decoder = decoders.ByteLevel()
        return json.loads(made.to_str())
    vocab = {word: number for number, word in enumerate(VOCAB)}
    made = library.Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if frame:
        made.post_processor = processors.TemplateProcessing(
            single=frame[0], pair=frame[1], special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    made.add_special_tokens(list(BERT_NAMES))
    return json.loads(made.to_str())


def config(kind, **keys):
    return {"tokenizer_config.json": dict(tokenizer_class=kind, **keys)}


AS_IT_IS = "PreTrainedTokenizerFast"
CAT = "Cat Más x[MASK]"
TABLE = {  # files, model type, text(s), ids of the reference
    "do_lower_case=False over tokenizer.json": (
        {"tokenizer.json": pieces(True)} | config("BertTokenizerFast", do_lower_case=False),
        "bert", [CAT], [2, 5, 7, 10, 4, 3],
    ),
    "strip_accents=False over tokenizer.json": (
        {"tokenizer.json": pieces(True)} | config("BertTokenizer", strip_accents=False),
        "bert", [CAT], [2, 6, 9, 10, 4, 3],
    ),
    "the class's frame where tokenizer.json has none": (
        {"tokenizer.json": pieces(True, None)} | config("BertTokenizer"),
        "bert", [CAT], [2, 6, 8, 10, 4, 3],
    ),
    "no frame where neither has one": (
        {"tokenizer.json": pieces(True, None)} | config(AS_IT_IS), "bert", [CAT], [6, 8, 10, 4],
    ),
    "added_tokens.json beside tokenizer.json": (
        {"tokenizer.json": pieces(False), "added_tokens.json": {"@user": 11}} | config(AS_IT_IS),
        "bert", ["@user w0"], [2, 11, 12, 3],
    ),
    "added_tokens_decoder beside tokenizer.json": (
        {"tokenizer.json": pieces(False)}
        | config(AS_IT_IS, added_tokens_decoder={"11": {"content": "@user", **PLAIN}}),
        "bert", ["@user w0"], [2, 11, 12, 3],
    ),
    "special_tokens_map.json over tokenizer_config.json": (
        {"vocab.txt": LINES, "special_tokens_map.json": {"cls_token": "x"}}
        | config("BertTokenizer", cls_token="[CLS]"),
        "bert", ["Cat", "x"], [10, 6, 3, 10, 3],
    ),
    "added_tokens_decoder alone": (
        {
            "vocab.txt": LINES,
            "special_tokens_map.json": {"cls_token": "x"},
            "added_tokens.json": {"w5": 12},
        }
        | config("BertTokenizer", added_tokens_decoder={"11": {"content": "@user", **PLAIN}}),
        "bert", ["@user w0"], [2, 11, 12, 3],
    ),
    "a blank before a text": (
        GPT2 | config("GPT2Tokenizer", add_prefix_space=True), "gpt2", ["a", "b"], [4, 5],
    ),
    "first and last token of GPT-2": (
        GPT2 | config("GPT2Tokenizer", add_bos_token=True, add_eos_token=True),
        "gpt2", ["a", "b"], [0, 1, 0, 0, 2, 0],
    ),
    "nothing around a GPT-2's text": (GPT2, "gpt2", ["a", "b"], [1, 2]),
    "a blank before a RoBERTa's text": (
        ROBERTA_PAIRS | config("RobertaTokenizer", add_prefix_space=True),
        "roberta", ["a", "b"], [0, 9, 2, 2, 10, 2],
    ),
    "a line twice": (
        {"vocab.txt": "\n".join([*BERT_NAMES, "a", "b", "a", "c"])},
        "bert", ["a b c"], [2, 7, 6, 8, 3],
    ),
    "ModernBERT is as tokenizer.json is": (
        {"tokenizer.json": pieces(False)} | config("BertTokenizer", do_lower_case=True),
        "modernbert", [CAT], [2, 5, 7, 10, 4, 3],
    ),
}  # fmt: skip


def write(folder, files, model_type=None, rows=41):
    folder.mkdir(exist_ok=True)
    settings = {"config.json": {"model_type": model_type, "vocab_size": rows}} if model_type else {}
    for name, content in {**settings, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("added_tokens", "great film @user url", [2, 5, 6, 39, 8, 3]),
        ("strip_accents", "Más es war schön", [2, 8, 9, 10, 6, 3]),
    ],
)
def test_ids_of_whole_folders(tmp_path, name, text, expected):
    """What they give is in the long test above."""
    assert ids(tokenizer_files.load(build(FOLDERS[name], tmp_path / name)), text) == expected


@pytest.mark.parametrize("name", TABLE)
def test_ids_are_those_of_the_reference(tmp_path, name):
    files, model_type, texts, expected = TABLE[name]
    tokenizer = tokenizer_files.load(write(tmp_path, files, model_type))
    assert ids(tokenizer, *texts) == expected
    again = Tokenizer.from_json(tokenizer.to_json())
    assert ids(again, *texts) == expected and again.fingerprint() == tokenizer.fingerprint()
    assert [getattr(again, role) for role in ROLES] == [getattr(tokenizer, r) for r in ROLES]


def test_tokenizer_json_is_followed_where_its_class_would_assume_something_else(tmp_path, capsys):
    files = {"tokenizer.json": pieces(False)} | config("BertTokenizer")
    assert ids(tokenizer_files.load(write(tmp_path, files, "bert")), CAT) == [2, 5, 7, 10, 4, 3]
    assert "tokenizer.json does not lower letters" in capsys.readouterr().err
    digits = {"tokenizer.json": pieces(False, digits=True)} | config("GPT2Tokenizer")
    assert ids(tokenizer_files.load(write(tmp_path / "g", digits, "llama")), "a 12") == [1, 3, 6, 7]


def test_token_types_are_there_where_the_folder_asks_for_them(tmp_path):
    asked = ["input_ids", "token_type_ids", "attention_mask"]
    for number, (kind, keys, last) in enumerate(
        [("BertTokenizer", {}, 1), (AS_IT_IS, {}, 0), (AS_IT_IS, {"model_input_names": asked}, 1)]
    ):
        files = {"tokenizer.json": pieces(True)} | config(kind, **keys)
        tokenizer = tokenizer_files.load(write(tmp_path / str(number), files, "bert"))
        segment = framed(Tokenizer.from_json(tokenizer.to_json()), [[6], [10]], 9)
        assert segment.types.tolist() == [0, 0, 0, last, last]


def test_roles_are_declared_or_found_by_name(tmp_path):
    declared = dict(eos_token="x", mask_token={"content": "w1", "lstrip": True}, pad_token=None)
    files = {"tokenizer.json": pieces(False)} | config(AS_IT_IS, **declared)
    t = tokenizer_files.load(write(tmp_path, files, "bert"))
    assert (t.eos, t.mask, t.pad, t.cls, t.unk, t.bos) == (10, 13, None, 2, 1, None)
    assert {10, 13} <= t.special_ids and 10 in t.ends
    turn = dict.fromkeys(("eos_token", "bos_token"), "<|im_end|>")
    turn["unk_token"] = "<|endoftext|>"
    names = ("<|im_end|>", "<|endoftext|>")
    vocab = {word: number for number, word in enumerate([*names, "a", "b"])}
    files = {"vocab.json": vocab, "merges.txt": ""} | config("GPT2Tokenizer", **turn)
    t = tokenizer_files.load(write(tmp_path / "turn", files, "llama", rows=4))
    assert t.eos == 1 and t.ends == (1, 0), "a document ends, then a turn of a conversation"
    assert t.begin("a test") == (1,)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"added_tokens.json": {"new": 50}}, "'new' has the id 50 there, but 41"),
        ({"tokenizer_config.json": "[]"}, "tokenizer_config.json: expected an object"),
        ({"tokenizer_config.json": "{"}, "tokenizer_config.json: not JSON"),
    ],
)
def test_what_cannot_be_followed_is_an_error_that_names_it(tmp_path, files, error):
    write(tmp_path, {"tokenizer.json": pieces(False)} | files, "bert")
    with pytest.raises(UserError, match=error):
        tokenizer_files.load(tmp_path)


def test_a_blank_that_has_no_place_is_an_error(tmp_path):
    files = config("LlamaTokenizer", add_prefix_space=False) | {"tokenizer.json": SENTENCE_PIECES}
    with pytest.raises(UserError, match="tokenizer_config.json: add_prefix_space=False"):
        tokenizer_files.load(write(tmp_path, files, "llama"))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (config(AS_IT_IS, never_seen=1, chat_template="x"), "not followed: never_seen\n"),
        (config(AS_IT_IS, truncation_side="left"), "truncation_side='left' is not followed"),
        (config(AS_IT_IS, do_lower_case=True), "do_lower_case=True contradicts tokenizer.json"),
        (config(AS_IT_IS, add_bos_token=True, pad_token="<new>"), "pad_token '<new>' is not in"),
        (config("BertTokenizer", do_lower_case=False, model_max_length=9), ""),
        (config("BertTokenizer", do_lower_case=False, split_special_tokens=True), ""),
    ],
)
def test_what_makes_no_difference_to_the_reference_is_told(tmp_path, capsys, files, told):
    tokenizer = tokenizer_files.load(
        write(tmp_path, {"tokenizer.json": pieces(False)} | files, "bert")
    )
    said = capsys.readouterr().err
    assert told in said if told else not said
    assert ids(tokenizer, CAT) == [2, 5, 7, 10, 4, 3]


def test_a_line_twice_is_told_once(tmp_path, capsys):
    write(tmp_path, TABLE["a line twice"][0], "bert")
    assert tokenizer_files.load(tmp_path).vocab_size == 9
    assert "1 entries occur more than once, such as 'a'" in capsys.readouterr().err

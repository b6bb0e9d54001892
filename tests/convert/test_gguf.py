"""Imports of GGUF files give the written numbers; damaged or foreign files are rejected."""

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from research import cli
from research.convert import importer
from research.convert.gguf import BLOCK_NAMES, NAMES
from research.data.batch import framed
from research.errors import UserError
from research.models import params as parameters
from tests.convert.test_parity import GOLDEN
from tests.helpers import byte_pairs

MODEL = GOLDEN / "LlamaForCausalLM"
HEADS, GROUPS, LAYERS = 4, 2, 2  # its shape


def tokens() -> list[str]:
    """A byte-level vocabulary of the model's 41 entries, the last one of two bytes."""
    inner = byte_pairs()
    found = [inner.token(i) for i in range(40)]
    return [*found, found[-2] + found[-1]]


def interleaved(name: str, array: np.ndarray) -> np.ndarray:
    """Queries and keys in llama.cpp's layout: the halves of a head interleaved."""
    part = name.split(".")[-2]
    count = {"attn_q": HEADS, "attn_k": GROUPS}.get(part)
    if count is None:
        return array
    return array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)


def their_names() -> dict[str, str]:
    found = {f"{theirs}.weight": f"{ours}.weight" for ours, theirs in NAMES.items()}
    for layer in range(LAYERS):
        for ours, theirs in BLOCK_NAMES.items():
            found[f"model.layers.{layer}.{theirs}.weight"] = f"blk.{layer}.{ours}.weight"
    return found


@pytest.fixture
def write(tmp_path):
    """A function: changes to the tiny Llama of the golden files -> its GGUF file."""

    def make(
        architecture="llama",
        drop="",
        model="gpt2",
        cut="gpt-2",
        more=None,
        kind=None,
        frame=(),
        keys=None,
    ):
        path = tmp_path / "model.gguf"
        writer = gguf.GGUFWriter(str(path), architecture)
        numbers = {
            "embedding_length": 16,
            "block_count": LAYERS,
            "attention.head_count": HEADS,
            "attention.head_count_kv": GROUPS,
            "feed_forward_length": 20,
            "context_length": 32,
        }
        for key, value in numbers.items():
            if key != drop:
                writer.add_uint32(f"llama.{key}", value)
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
        for key, value in (keys or {}).items():
            of = {str: "string", bool: "bool", int: "uint32", float: "float32"}[type(value)]
            getattr(writer, f"add_{of}")(key, value)
        writer.add_tokenizer_model(model)
        if cut:
            writer.add_tokenizer_pre(cut)
        for role in frame:  # <|pad|> stands for the first token, <|endoftext|> for the last
            getattr(writer, f"add_{role}_token_id")(["bos", "eos"].index(role))
            getattr(writer, f"add_add_{role}_token")(True)
        writer.add_token_list(tokens())
        writer.add_token_merges([" ".join(tokens()[-3:-1])])
        writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens()])
        names = their_names()
        for name, array in (load_file(MODEL / "model.safetensors") | (more or {})).items():
            ours = names.get(name, name)
            if ours == drop:
                continue
            array = interleaved(ours, array) if name in names else array
            if kind is not None and ours == "output.weight":
                writer.add_tensor(ours, gguf.quants.quantize(array, kind), raw_dtype=kind)
            else:
                writer.add_tensor(ours, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


def test_the_weights_are_those_that_were_written(write):
    theirs, ours = importer.read(str(MODEL)), importer.read(str(write()))
    assert ours.architecture == "LlamaForCausalLM"
    assert ours.config.model == theirs.config.model
    expected, found = parameters.by_path(theirs.params), parameters.by_path(ours.params)
    assert expected.keys() == found.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)
    tokenizer = ours.source.tokenizer
    assert tokenizer.vocab_size == 41 and tokenizer.eos == tokens().index("<|endoftext|>")
    assert tokenizer.encode(tokens()[-1]).ids.tolist() == [40]


@pytest.mark.parametrize("frame", [(), ("bos",), ("bos", "eos"), ("eos",)])
def test_what_the_file_puts_around_a_text(write, frame):
    t = importer.read(str(write(frame=frame))).source.tokenizer
    begin, close = [0] * ("bos" in frame), [1] * ("eos" in frame)
    segment = framed(t, [[40], [39]], 9)
    assert segment.tokens.tolist() == [*begin, 40, *close, *begin, 39, *close]
    assert segment.types.tolist() == [0] * (1 + len(frame)) + [1] * (1 + len(frame))
    assert t.begin("a test") == ((0,) if begin else (1,))


def test_half_precision_is_read_as_its_float32(write):
    half = importer.read(str(write(kind=gguf.GGMLQuantizationType.F16)))
    table = load_file(MODEL / "model.safetensors")["lm_head.weight"]
    found = parameters.by_path(half.params)["heads/causal_lm/table"][:41]
    np.testing.assert_array_equal(found, table.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "qwen2"}, ["architecture 'qwen2' is not supported", "'llama'"]),
        ({"drop": "block_count"}, ["lacks llama.block_count"]),
        ({"drop": "blk.1.attn_q.weight"}, ["lacks model.layers.1.self_attn.q_proj.weight"]),
        ({"model": "llama"}, ["the tokenizer 'llama'", "not supported"]),
        ({"cut": ""}, ["lacks tokenizer.ggml.pre", "gguf-new-metadata --pre-tokenizer", "smollm"]),
        ({"cut": "smolm"}, ["'smolm'", "did you mean 'smollm'?"]),
        ({"more": {"blk.0.extra.weight": np.ones(2, np.float32)}}, ["'blk.0.extra.weight' is not"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:30],
)
def test_what_does_not_fit_is_named(write, tmp_path, capsys, changes, said):
    path = write(**changes)
    assert cli.main(["import", f"--source={path}", f"--output={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    for text in (str(path), *said):
        assert text in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"rope.scaling.type": "linear"}, "llama.rope.scaling.type='linear' is not supported"),
        ({"rope.scaling.factor": 2.0}, "llama.rope.scaling.factor=2.0 is not supported"),
        ({"rope.dimension_count": 2}, "llama.rope.dimension_count=2 is not supported; .* 4"),
        ({"attention.scale": 0.25}, "llama.attention.scale=0.25 is not supported"),
        ({"attention.key_length": 8}, "llama.attention.key_length=8 is not supported"),
        ({"attention.value_length": 8}, "llama.attention.value_length=8 is not"),
        ({"attention.sliding_window": 16}, "llama.attention.sliding_window=16 is not"),
        ({"attention.causal": False}, "llama.attention.causal=False is not supported"),
        ({"logit_scale": 0.5}, "llama.logit_scale=0.5 is not supported"),
        ({"residual_scale": 0.5}, "llama.residual_scale=0.5 is not supported"),
        ({"expert_count": 8}, "llama.expert_count=8 is not supported"),
        ({"final_logit_softcapping": 30.0}, "the key llama.final_logit_softcapping=30.0 is not"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_keys_that_change_the_numbers_are_named(write, keys, said):
    with pytest.raises(UserError, match=said):
        importer.read(str(write(keys={f"llama.{key}": value for key, value in keys.items()})))


def test_parts_of_models_are_named(write):
    with pytest.raises(UserError, match="split.count=3; expected a whole model"):
        importer.read(str(write(keys={"split.count": 3})))
    with pytest.raises(UserError, match="'rope_freqs.weight', a scaling of rotary positions,"):
        importer.read(str(write(more={"rope_freqs.weight": np.ones(2, np.float32)})))
    for name in ("blk.0.weight", "blk.weight", "blk.attn_q.weight", "weight"):
        with pytest.raises(UserError, match=f"'{name}' is not known"):
            importer.read(str(write(more={name: np.ones(2, np.float32)})))


def test_keys_of_the_tokenizer_that_are_not_followed_are_told(write, capsys):
    importer.read(str(write(keys={"tokenizer.ggml.add_space_prefix": False})))
    assert capsys.readouterr().err == ""
    importer.read(str(write(keys={"tokenizer.ggml.new_rule": 1})))
    assert "tokenizer.ggml.new_rule: not known, ignored" in capsys.readouterr().err


def test_keys_that_change_nothing_are_known(write):
    keys = {"vocab_size": 41, "rope.dimension_count": 4, "rope.scaling.type": "none"}
    keys |= {"attention.key_length": 4, "attention.scale": 0.5, "logit_scale": 1.0}
    keys |= {"rope.freq_base": 500.0, "expert_count": 0, "rope.scaling.finetuned": False}
    others = {"general.name": "x", "quantize.imatrix.file": "y"}
    found = importer.read(str(write(keys={f"llama.{k}": v for k, v in keys.items()} | others)))
    assert found.config.model.rope_base == 500.0


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_a_cut_file_is_named(write, tmp_path, capsys, share):
    path = write()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert cli.main(["import", f"--source={path}", f"--output={tmp_path / 'out'}"]) == 2
    assert f"{path}: truncated, or not a GGUF file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

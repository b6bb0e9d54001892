"""Import, export, import give the same bits, and wrong checkpoints are rejected with a reason."""

import json
import shutil
import sys
import types
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

from research import cli
from research.config import from_values
from research.convert import exporter, importer
from research.convert.families import family_of
from research.errors import UserError
from research.evaluation import splits
from research.generation import decode
from research.models import params as parameters
from research.run.loaded import load_model
from research.training import loop
from tests import helpers
from tests.convert.test_parity import CLASSES, GOLDEN


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """name -> the folder of the imported checkpoint."""
    root = tmp_path_factory.mktemp("imported")

    def get(name: str) -> str:
        path = root / name
        if not path.exists():
            importer.save(importer.read(str(GOLDEN / name)), str(path))
        return str(path)

    return get


def test_a_classifier_on_the_last_token_leaves_with_its_padding(imported, tmp_path):
    """Its folder declares no padding; without it the reference refuses a batch of texts."""
    start = imported("GPT2ForSequenceClassification")
    exporter.export(start, str(tmp_path / "out"))
    pad = load_model(start).tokenizer.pad
    assert pad is not None
    assert json.loads((tmp_path / "out/config.json").read_text())["pad_token_id"] == pad


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_exported_is_what_was_imported(imported, tmp_path, name):
    done = exporter.export(imported(name), str(tmp_path / "out"))
    assert (done.architecture, done.left_out) == (name.partition(".")[0], ())
    source = load_file(GOLDEN / name / "model.safetensors")
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert source.keys() == again.keys()
    for key, array in source.items():
        same = array[2:] if "Roberta" in name and "position_embeddings" in key else array
        found = again[key][2:] if same is not array else again[key]
        assert found.dtype == array.dtype and np.array_equal(found, same), key
    before, after = (importer.read(str(p)) for p in (GOLDEN / name, tmp_path / "out"))
    assert before.config.model == after.config.model and before.config.task == after.config.task
    paths = parameters.by_path(before.params)
    assert paths.keys() == parameters.by_path(after.params).keys()
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    theirs, ours = (
        json.loads((p / "config.json").read_text()) for p in (GOLDEN / name, tmp_path / "out")
    )
    family = family_of(theirs)
    wrong = {
        key: (value, theirs[key])
        for key, value in ours.items()
        if theirs.get(key) not in (value, None) and key in family.to_hf(before.config.model)
    }
    assert not wrong


def test_an_exported_tokenizer_puts_the_special_tokens_around_a_text(imported, tmp_path):
    from tokenizers import Tokenizer

    exporter.export(imported("BertForMaskedLM"), str(tmp_path / "out"))
    found = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    pair = found.encode("w1 w2", "w3")
    assert pair.tokens == ["[CLS]", "w1", "w2", "[SEP]", "w3", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1]


def test_the_commands(tmp_path, capsys):
    source, ours, theirs = GOLDEN / "BertForSequenceClassification", tmp_path / "a", tmp_path / "b"
    assert cli.main(["import", f"--source={source}", f"--output={ours}"]) == 0
    assert "head sequence_classification: 51 parameters" in capsys.readouterr().out
    assert cli.main(["predict", f"--checkpoint={ours}", "--text=w1 w2"]) == 0
    assert "B-LOC" in capsys.readouterr().out
    loaded = load_model(str(ours))
    for split, overrides in (("test", {}), ("validation", {"data.validation": "files:other"})):
        found = splits.Evaluation({"macro_recall": 0.25}, [{}] * 3, [])
        splits.record(str(ours), split, loaded, found, overrides)
    assert cli.main(["export", f"--checkpoint={ours}", f"--output={theirs}"]) == 0
    config = json.loads((theirs / "config.json").read_text())
    assert config["id2label"] == {"0": "O", "1": "B-LOC", "2": "I-LOC"}
    card = (theirs / "README.md").read_text()
    assert "BertForSequenceClassification.from_pretrained" in card and str(source) in card
    assert "| test, 3 examples | macro recall | 0.2500 |" in card and "| validation" not in card
    modes = {file.stat().st_mode for file in theirs.iterdir()}
    assert len(modes) == 1, "all are as readable as one another"
    assert cli.main(["export", f"--checkpoint={ours}", f"--output={theirs}"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["import", f"--source={source}", f"--output={ours}"]) == 2


def test_a_checkpoint_without_a_head_says_so(imported, capsys):
    path = imported("BertModel")
    assert cli.main(["predict", f"--checkpoint={path}", "--text=w1"]) == 2
    assert "has no head" in capsys.readouterr().err


# What is wrong with a public checkpoint


@pytest.fixture
def copy(tmp_path):
    """A function: (class, change of its config, change of its tensors) -> the changed folder."""

    def make(name="BertForMaskedLM", config=None, tensors=None):
        folder = tmp_path / name
        shutil.copytree(GOLDEN / name, folder)
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | (config or {})))
        if tensors is not None:
            arrays = load_file(folder / "model.safetensors")
            tensors(arrays)
            save_file(arrays, folder / "model.safetensors")
        return folder

    return make


COPY, WORDS = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("config", "tensors", "said"),
    [
        ({"model_type": "bird"}, None, ["model_type 'bird' is not supported; supported: bert, "]),
        ({"model_type": "smollm3"}, None, ["'smollm3' is not", "the nearest of these is llama"]),
        ({"model_type": "t5"}, None, ["'t5' is not supported"]),
        ({"model_type": "deberta-v2"}, None, ["'deberta-v2' is not supported; supported: bert, "]),
        ({"model_type": "camembert"}, None, ["'camembert' is", "nearest of these is roberta"]),
        ({"model_type": "albert"}, None, ["'albert' is not supported; supported: bert, "]),
        ({"quantization_config": {"bits": 4}}, None, ["has a quantization_config"]),
        ({"architectures": ["BertForMaskedLLM"]}, None, ["BertForMaskedLLM", "BertForMaskedLM"]),
        ({"hidden_act": "swoosh"}, None, ["hidden_act='swoosh'"]),
        ({"position_embedding_type": "relative_key"}, None, ["relative_key", "absolute"]),
        ({"hidden_size": 24}, None, ["shape [41, 16], expected [41, 24]"]),
        ({}, lambda t: t.pop(QUERY), ["lacks", QUERY]),
        ({}, lambda t: t.update(extra=np.ones(2, np.float32)), ["extra"]),
        ({"vocab_size": 40}, None, ["tokenizer has 41 entries, the embedding 40 rows"]),
        ({}, lambda t: t.update({QUERY: t[QUERY][:8]}), [QUERY, "[8, 16], expected [16, 16]"]),
        ({}, lambda t: t.update({COPY: t[WORDS] + 1}), [f"{COPY} is not the same as {WORDS}"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(copy, tmp_path, capsys, config, tensors, said):
    folder = copy(config=config, tensors=tensors)
    status = cli.main(["import", f"--source={folder}", f"--output={tmp_path / 'out'}"])
    error = capsys.readouterr().err
    assert status == 2 and not (tmp_path / "out").exists()
    assert len(error.splitlines()) <= 12
    for text in said:
        assert text in error


def test_label_ids_that_are_not_in_a_row(copy):
    folder = copy("BertForSequenceClassification", {"id2label": {"0": "a", "5": "b"}})
    with pytest.raises(UserError, match="id2label has the ids 0, 5, expected 0 to 1"):
        importer.read(str(folder))


def test_a_copy_of_a_tied_table_is_no_stranger(copy):
    folder = copy(tensors=lambda t: t.update({COPY: t[WORDS]}))
    assert importer.read(str(folder)).architecture == "BertForMaskedLM"


def test_labels_that_the_head_does_not_have(copy):
    labels = {"id2label": {"0": "NOUN", "1": "NOUN", "2": "X"}}
    folder = copy("BertForSequenceClassification", labels)
    with pytest.raises(UserError, match=f"{folder}.*labels"):
        importer.read(str(folder))
    assert importer.read(str(folder), ["a", "b", "c"]).config.task.labels == ("a", "b", "c")
    with pytest.raises(UserError, match="--labels=a,b has 2 names; the head has 3 outputs: NOUN"):
        importer.read(str(folder), ["a", "b"])
    with pytest.raises(UserError, match="--labels: BertModel has no labels"):
        importer.read(str(GOLDEN / "BertModel"), ["a", "b"])
    shutil.rmtree(folder)
    folder = copy("BertForSequenceClassification", {"id2label": {"a": "x", "b": "y"}})
    with pytest.raises(UserError, match="id2label has the ids a, b"):
        importer.read(str(folder))


@pytest.mark.parametrize("verb", ["import", "export"])
def test_nothing_is_left_of_what_could_not_be_written(verb, copy, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "x")

    out, source = tmp_path / "out", copy()
    if verb == "import":
        flags = [f"--source={source}"]
        monkeypatch.setattr(importer.checkpoint, "write_checkpoint", full)
    else:
        start = tmp_path / "start"
        assert cli.main(["import", f"--source={source}", f"--output={start}"]) == 0
        flags = [f"--checkpoint={start}"]
        monkeypatch.setattr(exporter, "save_file", full)
    assert cli.main([verb, *flags, f"--output={out}"]) == 2
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith("out")]


def test_damaged_and_missing_files(copy, tmp_path):
    folder = copy()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="model.safetensors: truncated"):
        importer.read(str(folder))
    weights.unlink()
    with pytest.raises(UserError, match="model.safetensors is missing"):
        importer.read(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "merges.txt").touch()
    with pytest.raises(UserError, match="is pickled.*\n.*BertForMaskedLM.from_pretrained") as error:
        importer.read(str(folder))
    assert f"{folder / 'merges.txt'}" in str(error.value).splitlines()[-1]
    (folder / "merges.txt").unlink()
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    weights.with_name("one.safetensors").write_bytes(whole)
    with pytest.raises(UserError, match="two.safetensors is missing"):
        importer.read(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="config.json is missing"):
        importer.read(str(folder))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    with pytest.raises(UserError, match="is an adapter .*: merge it into its base first"):
        importer.read(str(folder))
    with pytest.raises(UserError, match="no folder or file .*nowhere', and it is not a name"):
        importer.read(str(tmp_path / "nowhere"))


def test_shards_are_read_as_one(copy):
    folder = copy()
    arrays = load_file(folder / "model.safetensors")
    names = sorted(arrays)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, chosen in halves.items():
        save_file({name: arrays[name] for name in chosen}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found, whole = (importer.read(str(p)) for p in (folder, GOLDEN / "BertForMaskedLM"))
    jax.tree.map(np.testing.assert_array_equal, found.params, whole.params)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertModel"])
def test_a_config_without_model_type(copy, name):
    folder = copy(name)
    values = json.loads((folder / "config.json").read_text())
    del values["model_type"]
    (folder / "config.json").write_text(json.dumps(values))
    assert importer.read(str(folder)).architecture == name
    (folder / "config.json").write_text(json.dumps(values | {"architectures": ["My"]}))
    with pytest.raises(UserError, match=r"lacks 'model_type', and its architectures \['My'\] are"):
        importer.read(str(folder))
    (folder / "config.json").write_text(json.dumps(values | {"architectures": None}))
    with pytest.raises(UserError, match="lacks 'model_type'; supported: bert, distilbert"):
        importer.read(str(folder))


def stored_as(folder: Path, kind: str, values: np.ndarray) -> None:
    """Puts a tensor into a folder, of a type that the library's writer for numpy lacks."""
    header, data = {}, b""
    for key, array in (load_file(folder / "model.safetensors") | {KEY: values}).items():
        dtype = kind if key == KEY else "F32"
        end = len(data) + array.nbytes
        header[key] = dict(dtype=dtype, shape=array.shape, data_offsets=[len(data), end])
        data += array.tobytes()
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + data
    (folder / "model.safetensors").write_bytes(whole)


KEY = QUERY.removeprefix("bert.")


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"])
def test_float8_is_read_as_its_float32(copy, kind):
    folder = copy("BertModel")
    values = load_file(folder / "model.safetensors")[KEY].astype(getattr(ml_dtypes, kind))
    name = kind.upper().replace("FLOAT", "F").removesuffix("FN")
    stored_as(folder, name, values)
    found = parameters.by_path(importer.read(str(folder)).params)
    kernel = found["backbone/layers/attention/query/kernel"][1].reshape(16, 16)
    np.testing.assert_array_equal(kernel, values.astype(np.float32).T)


@pytest.mark.parametrize("kind,size", [("F8_E8M0", 1), ("C64", 8)])
def test_types_that_are_no_weights_are_named(copy, kind, size):
    folder = copy("BertModel")
    stored_as(folder, kind, np.zeros((16, 16), f"V{size}"))
    with pytest.raises(UserError, match=f"{KEY} is stored as {kind}"):
        importer.read(str(folder))


def test_an_import_that_was_killed_is_made_again(copy, tmp_path, monkeypatch):
    imported = importer.read(str(copy("BertModel")))
    output = tmp_path / "ours"

    def killed(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(importer.checkpoint, "write_checkpoint", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if by SIGKILL
        (tmp_path / "ours.part" / "checkpoints" / "0.orbax-checkpoint-tmp").mkdir(parents=True)
        with pytest.raises(SystemExit):
            importer.save(imported, str(output))
    assert not output.exists()
    importer.save(imported, str(output))
    assert sorted(p.name for p in tmp_path.iterdir() if "ours" in p.name) == ["ours"]
    assert sorted(p.name for p in (output / "checkpoints").iterdir()) == ["0"]


def test_old_names_and_names_without_prefix(copy):
    def rename(tensors):
        for name in list(tensors):
            new = name.removeprefix("bert.")
            if "LayerNorm" in new:
                new = new.replace(".weight", ".gamma").replace(".bias", ".beta")
            tensors[new] = tensors.pop(name)

    found = importer.read(str(copy(tensors=rename)))
    whole = importer.read(str(GOLDEN / "BertForMaskedLM"))
    jax.tree.map(np.testing.assert_array_equal, found.params, whole.params)


def test_heads_that_config_json_does_not_name_are_found(copy):
    """As in the first BERT checkpoints, which say masked LM and hold next sentence too."""
    folder = copy("BertForPreTraining", {"architectures": ["BertForMaskedLM"]})
    found = importer.read(str(folder))
    assert found.architecture == "BertForPreTraining"
    assert set(found.params["heads"]) == {"masked_lm", "next_sentence"}


def test_a_shape_that_the_library_does_not_have(tmp_path):
    values = helpers.run_values("gpt", tmp_path, steps=1)
    values["model"] |= {"positions": "rope"}
    loop.train(from_values(values), str(tmp_path / "run"))
    with pytest.raises(UserError, match="no public architecture has this shape; nearest: "):
        exporter.export(str(tmp_path / "run"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_head_that_tells_pairs_is_left_out_where_no_class_has_both(tmp_path):
    """An encoder of ModernBERT's shape that was pre-trained with next sentence prediction."""
    values = helpers.run_values("bert", tmp_path, steps=1)
    values["model"] |= {"preset": "modernbert_base", "layers": 2, "heads": 2}
    loop.train(from_values(values), str(tmp_path / "run"))
    done = exporter.export(str(tmp_path / "run"), str(tmp_path / "out"))
    assert done.architecture == "ModernBertForMaskedLM"
    assert {path.split("/")[1] for path in done.left_out} == {"next_sentence"}
    assert len(done.left_out) == 4
    ours, theirs = load_model(str(tmp_path / "run")), importer.read(str(tmp_path / "out"))
    heads = {"masked_lm": ours.params["heads"]["masked_lm"]}
    kept = {"backbone": ours.params["backbone"], "heads": heads}
    assert parameters.by_path(theirs.params).keys() == parameters.by_path(kept).keys()


def test_a_loaded_import_computes_in_float32(imported):
    loaded = load_model(imported("GPT2LMHeadModel"))
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(loaded.params))
    assert loaded.task is None and Path(loaded.info.meta["source"]).name == "GPT2LMHeadModel"


def test_a_hub_name_is_fetched_where_the_library_is(monkeypatch):
    asked = {}

    def snapshot_download(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        if name == "org/none":
            raise OSError("404 Client Error: no such repository\nmore")
        return str(GOLDEN / "BertModel")

    library = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    assert importer.read("org/bert").architecture == "BertModel"
    assert asked["name"] == "org/bert" and "*.bin" not in asked["patterns"]
    with pytest.raises(UserError, match="'org/none', and the Hugging Face hub says: 404 Client"):
        importer.read("org/none")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        importer.read("org/bert")


@pytest.mark.parametrize(
    ("variant", "task", "problem", "labels"),
    [
        ("regression", "RegressionConfig", "regression", 1),
        ("multi_label", "MultiLabelConfig", "multi_label_classification", 3),
    ],
)
def test_the_kind_of_problem_comes_in_and_goes_out(
    imported, tmp_path, variant, task, problem, labels
):
    ours = imported(f"BertForSequenceClassification.{variant}")
    assert type(load_model(ours).config.task).__name__ == task
    exporter.export(ours, str(tmp_path / "theirs"))
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["problem_type"] == problem and len(config["id2label"]) == labels


def test_bases_that_config_json_leaves_out(copy):
    """transformers' ModernBertConfig has 160,000 and 10,000; a local null means the global base."""

    def bases(**given):
        folder = copy("ModernBertForMaskedLM")
        values = json.loads((folder / "config.json").read_text())
        del values["rope_parameters"]
        (folder / "config.json").write_text(json.dumps(values | given))
        model = importer.read(str(folder)).config.model
        shutil.rmtree(folder)
        return model.rope_base, model.local_rope_base

    assert bases() == (160_000.0, 10_000.0)
    assert bases(global_rope_theta=5e3, local_rope_theta=None) == (5e3, 5e3)
    assert bases(local_rope_theta=3e3) == (160_000.0, 3e3)
    # The values of ModernBertConfig(...).rope_parameters in transformers 5.23.0.
    five, nine = {"rope_theta": 5e3}, {"rope_theta": 9.0}
    assert bases(rope_parameters={"full_attention": five}) == (5e3, 10_000.0)
    assert bases(rope_parameters={"sliding_attention": five}) == (160_000.0, 5e3)
    older = dict(global_rope_theta=111.0, local_rope_theta=222.0)
    both = {"full_attention": {"rope_type": "default"}, "sliding_attention": {}}
    assert bases(rope_parameters=both) == (160_000.0, 10_000.0)
    assert bases(rope_parameters=both, **older) == (111.0, 222.0)
    assert bases(rope_parameters={"full_attention": five}, **older) == (5e3, 222.0)
    assert bases(rope_scaling=nine) == (9.0, 9.0)
    assert bases(rope_scaling=nine, rope_parameters={"full_attention": five}) == (9.0, 9.0)
    assert bases(rope_scaling={}, rope_theta=7.0) == (160_000.0, 10_000.0)
    with pytest.raises(UserError, match="rope_type='linear' is not supported"):
        bases(rope_scaling={"rope_type": "linear", "factor": 2.0})


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ({"rope_scaling": {"rope_type": "default", "rope_theta": 5e3}}, 5e3),
        ({"rope_scaling": {"rope_type": "default"}}, 1e4),
        ({"rope_scaling": {"type": "default"}, "rope_theta": 50.0}, 50.0),
        ({"rope_scaling": {}}, 777.0),
        ({"rope_theta": 333.0}, 777.0),
        ({"rope_parameters": {"rope_type": "default"}, "rope_theta": 333.0}, 333.0),
        ({"rope_parameters": {}}, 1e4),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope scaling 'linear' is not"),
        ({"rope_parameters": {"rope_theta": None}}, "rope_theta=None is not a number"),
    ],
)
def test_where_a_llamas_base_stands(copy, given, base):
    """The values of LlamaConfig(...).rope_parameters in transformers 5.23.0."""
    start = {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}}
    folder = copy("LlamaForCausalLM", start | given)
    if isinstance(base, str):
        with pytest.raises(UserError, match=base):
            importer.read(str(folder))
    else:
        assert importer.read(str(folder)).config.model.rope_base == base


def test_an_exported_tokenizer_begins_a_text_as_generation_does(tmp_path):
    loop.train(from_values(helpers.run_values("gpt", tmp_path, steps=1)), str(tmp_path / "run"))
    exporter.export(str(tmp_path / "run"), str(tmp_path / "out"))
    public = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    ours = decode.encode_prompt(load_model(str(tmp_path / "run")).tokenizer, "Sen mol")
    assert public.encode("Sen mol").ids == ours
    importer.save(importer.read(str(tmp_path / "out")), str(tmp_path / "again"))
    again = load_model(str(tmp_path / "again")).tokenizer
    assert decode.encode_prompt(again, "Sen mol") == ours


def test_a_modernbert_without_a_window_has_global_layers_only(tmp_path):
    """In transformers, with a local_attention of 0, a local layer's position sees only itself."""
    values = helpers.run_values("bert", tmp_path, steps=1)
    values["model"] |= {"preset": "modernbert_base", "layers": 2, "heads": 2, "window": 0}
    loop.train(from_values(values), str(tmp_path / "run"))
    exporter.export(str(tmp_path / "run"), str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (written["local_attention"], written["global_attn_every_n_layers"]) == (128, 1)
    assert importer.read(str(tmp_path / "out")).config.model.window == 0


def test_a_modernberts_local_attention_of_nothing_is_each_positions_own(copy):
    folder = copy("ModernBertForMaskedLM", {"local_attention": 0})
    assert importer.read(str(folder)).config.model.window // 2 == 0
    assert importer.read(str(folder)).config.model.window > 0


def test_a_modernberts_sliding_window_is_half_of_its_local_attention(copy):
    folder = copy("ModernBertForMaskedLM", {"sliding_window": 8})
    assert importer.read(str(folder)).config.model.window == 16

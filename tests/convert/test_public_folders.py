"""Folders as people have them: what must come of each, by the values of transformers 5.23.0 (Auto
classes, float32) on the same folder, and of sentence-transformers 6.2.0 where vectors are made."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from research import cli
from research.config import from_values
from research.convert import exporter, importer
from research.errors import UserError
from research.evaluation import embedding, predictor, splits
from research.run import restore
from research.run.loaded import load_model
from research.run.run import build as build_run
from research.tasks import turns
from research.training import loop
from tests.convert.folders import FOLDERS, Folder, build

CLASSIFIER = "RobertaForSequenceClassification"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A function: a folder's name -> the checkpoint that is imported from it."""
    root = tmp_path_factory.mktemp("public")

    def get(name: str) -> str:
        path = root / name
        if not path.exists():
            source = build(FOLDERS[name], root / f"{name}-source")
            importer.save(importer.read(str(source)), str(path))
        return str(path)

    return get


def read(folder: Folder, tmp_path, labels=()) -> importer.Imported:
    return importer.read(str(build(folder, tmp_path / "source")), labels)


def changed(name: str, **keys) -> Folder:
    return dataclasses.replace(FOLDERS[name], **keys)


# What is left over


def test_a_left_over_pooler_is_told(checkpoint, tmp_path):
    loaded = load_model(checkpoint("left_over_pooler"))
    found = predictor.predict(loaded, [{"id": "", "text": "w0 w1 w2 w3"}])[0]["probabilities"]
    right = [0.608790, 0.176837, 0.214373]
    np.testing.assert_allclose(list(found.values()), right, atol=2e-6)
    notes = "\n".join(read(FOLDERS["left_over_pooler"], tmp_path).notes)
    assert "roberta.pooler.dense.bias, roberta.pooler.dense.weight" in notes


@pytest.mark.parametrize(
    ("golden", "more", "kept"),
    [
        ("BertForTokenClassification", ["bert.pooler.dense"], ["pooler"]),
        ("BertForMaskedLM", ["bert.pooler.dense"], ["pooler"]),
        ("RobertaForMaskedLM", ["classifier.dense", "classifier.out_proj"], []),
        ("DistilBertForTokenClassification", ["vocab_transform", "vocab_projector"], []),
        ("BertForSequenceClassification", ["cls.predictions.transform.dense"], ["pooler"]),
        ("LlamaForSequenceClassification", ["lm_head"], []),
    ],
)
def test_tensors_of_other_classes_of_the_family_are_left_out(tmp_path, golden, more, kept):
    def add(tensors):
        sizes = {"vocab_projector": (41, 16), "lm_head": (41, 16)}
        extra = {f"{name}.weight": np.ones(sizes.get(name, (16, 16)), np.float32) for name in more}
        biases = {f"{name}.bias": np.ones(16, np.float32) for name in more if "pooler" in name}
        return tensors | extra | biases

    base = FOLDERS["bert_cls"] if golden[0] in "BD" else FOLDERS["left_over_pooler"]
    files = base.files if golden[0] != "L" else FOLDERS["llama_lm"].files
    folder = Folder(golden, files, tensors=add)
    if "vocab_projector" in more:  # a copy of the tied table that is none
        with pytest.raises(UserError, match="vocab_projector.weight is not the same as distilbert"):
            read(folder, tmp_path)
        return
    found = read(folder, tmp_path)
    assert found.architecture == golden
    assert ("pooler" in found.params["backbone"]) == bool(kept)
    told = [note for note in found.notes if note.startswith("left out")]
    if "pooler" in more[0]:
        assert not told
    else:
        assert all(f"{name}.weight" in told[0] for name in more)


def test_only_the_copy_of_a_tied_table_is_there(tmp_path):
    def only_copy(tensors):
        table = tensors.pop("transformer.wte.weight")
        return tensors | {"lm_head.weight": table}

    files = FOLDERS["gpt2_cls"].files
    found = read(Folder("GPT2LMHeadModel", files, tensors=only_copy), tmp_path)
    whole = importer.read(str(build(Folder("GPT2LMHeadModel", files), tmp_path / "whole")))
    tables = (x.params["backbone"]["embedding"]["word"] for x in (found, whole))
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_llama_with_a_table_of_its_own(tmp_path, same):
    def table(tensors):
        words = tensors["model.embed_tokens.weight"]
        return tensors | {"lm_head.weight": words if same else words + 1}

    folder = changed("llama_lm", config={"tie_word_embeddings": True}, tensors=table)
    if same:
        assert read(folder, tmp_path).config.model.tied_embeddings
    else:
        with pytest.raises(UserError, match=r"lm_head.weight is not the same as model.embed_tok"):
            read(folder, tmp_path)


def test_a_bare_model_whose_tensors_have_the_prefix(tmp_path):
    def prefixed(tensors):
        return {f"bert.{name}": array for name, array in tensors.items()}

    folder = Folder("BertModel", FOLDERS["bert_cls"].files, tensors=prefixed)
    assert read(folder, tmp_path).architecture == "BertModel"


def test_sinusoidal_positions_are_the_stored_ones(checkpoint):
    loaded = load_model(checkpoint("distil_sinus"))
    best = predictor.predict(loaded, [{"id": "", "text": "a [MASK]"}])[0]["masks"][0][:3]
    assert [x["token"] for x in best] == ["w7", "w11", "w33"]
    shares = [x["probability"] for x in best]
    np.testing.assert_allclose(shares, [0.123814, 0.094360, 0.050054], atol=2e-6)


def test_labels_without_a_meaning(tmp_path):
    found = read(FOLDERS["label_names"], tmp_path)
    assert found.config.task is None and not found.params["heads"]
    notes = "\n".join(found.notes)
    assert "LABEL_0" in notes and "--labels=O,B-PER" in notes and "classifier.weight" in notes
    named = importer.read(str(tmp_path / "source"), ["O", "B-PER", "I-PER"])
    assert named.config.task.labels == ("O", "B-PER", "I-PER")
    assert "token_classification" in named.params["heads"]


def test_an_import_is_fine_tuned_and_leaves_with_the_length_of_its_training(tmp_path, capsys):
    """Without its head it gets a new one; or its labels may be named on the command line."""
    source = build(FOLDERS["label_names"], tmp_path / "source")
    named, bare = tmp_path / "named", tmp_path / "bare"
    command = ["import", f"--source={source}"]
    assert cli.main([*command, f"--output={named}", "--labels=O,B-PER,I-PER"]) == 0
    assert "head token_classification: 51 parameters" in capsys.readouterr().out
    assert cli.main([*command, f"--output={bare}"]) == 0
    assert "its head is left out: a label is 'LABEL_0'" in capsys.readouterr().out
    rows = [{"tokens": ["a", "cat"], "tags": ["O", "B-PER"]}, {"tokens": ["a"], "tags": ["O"]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "task": {"name": "token_classification", "labels": ["O", "B-PER", "I-PER"]},
        "model": {"preset": "checkpoint"},
        "tokenizer": {"kind": "checkpoint"},
        "data": dict.fromkeys(("train", "validation"), f"files:{tmp_path}/rows.jsonl"),
        "train": {"steps": 1, "batch_size": 2},
    }
    values["data"]["length"] = 16
    tables = {}
    for start in (named, bare):
        run = build_run(from_values(values | {"init_from": str(start)}), jax.devices()[:1], True)
        tables[start.name] = restore.initial_params(run)[1].parts
    assert tables["named"]["head token_classification"] == "restored"
    assert tables["bare"]["head token_classification"] == "new"
    assert tables["bare"]["backbone"].startswith("restored")
    loop.train(from_values(values | {"init_from": str(bare)}), str(tmp_path / "run"), quiet=True)
    assert cli.main(["export", f"--checkpoint={tmp_path}/run", f"--output={tmp_path}/out"]) == 0
    written = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert written["model_max_length"] == 16, "of a model with 32 positions"


def test_a_chat_template_is_told_kept_and_written_back(tmp_path):
    def imported(name, **files):
        folder = changed("llama_lm", files=FOLDERS["llama_lm"].files | files)
        return importer.read(str(build(folder, tmp_path / name)))

    settings = FOLDERS["llama_lm"].files["tokenizer_config.json"]
    theirs = {"tokenizer_config.json": settings | {"chat_template": "{{ old }}"}}
    found = imported("theirs", **theirs, **{"chat_template.jinja": "{{ 1 }}"})
    told = r"its chat_template is kept for an export and not run: the task chat writes 'User: …</s>"
    assert told in "\n".join(found.notes)
    importer.save(found, str(tmp_path / "ours"))
    exporter.export(str(tmp_path / "ours"), str(tmp_path / "again"))
    written = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert written["chat_template"] == "{{ 1 }}"
    own = settings | {"chat_template": turns.template(found.source.tokenizer)}
    notes = imported("own", **{"tokenizer_config.json": own}).notes
    assert "its chat_template is how the task chat writes turns" in notes
    assert not any("template" in note for note in imported("none").notes)


# What an import sets, and who may change it


def test_a_question_that_fits_is_not_cut_and_the_limits_can_be_changed(checkpoint, tmp_path):
    example = {"id": "", "question": " ".join(f"w{i}" for i in range(10))}
    example["context"] = " ".join(f"w{i}" for i in range(10, 18))

    def answer(**changes):
        keys = {key.replace("__", "."): value for key, value in changes.items()}
        loaded = splits.load(checkpoint("qa"), keys, splits.DECISIONS)
        return predictor.predict(loaded, [example])[0]

    assert answer()["answer"] == "w13 w14"
    assert answer(task__max_question="64", data__length="24")["answer"] == "w13 w14"
    found = answer(task__unanswerable="true", task__null_threshold="-50.0")
    assert found["answer"] == "" and "null_score_difference" in found
    notes = "\n".join(read(FOLDERS["qa"], tmp_path).notes)
    for key in ("data.length=32", "task.max_question=64", "task.stride", "task.unanswerable=false"):
        assert f"--config.{key}" in notes


def test_an_import_is_evaluated_with_its_examples_alone(checkpoint, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    rows = [{"text": "w0 w1 w2", "label": "O"}, {"text": "w3", "label": "I-LOC"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["evaluate", f"--checkpoint={checkpoint('bert_cls')}"]
    for split in ("validation", "test"):
        flags = [f"--split={split}", f"--config.data.{split}=files:{file}"]
        assert cli.main([*command, *flags]) == 0
        assert "2 examples" in capsys.readouterr().out
    assert cli.main([*command, "--config.data.length=4"]) == 2
    assert "config.data.length=4 must be a whole number of at least 8" in capsys.readouterr().err


def test_the_length_of_a_training_leaves_with_the_export(checkpoint, tmp_path):
    def exported(path, **data):
        loaded = load_model(path)
        config = dataclasses.replace(loaded.config.data, **data)
        config = dataclasses.replace(loaded.config, data=config)
        return exporter._max_length(dataclasses.replace(loaded, config=config))

    start = checkpoint("bert_cls")
    assert exported(start, length=16) == 32, "nothing was trained"
    loaded = load_model(start)
    trained = dataclasses.replace(loaded.info, meta={"metrics": {}})
    config = dataclasses.replace(
        loaded.config, data=dataclasses.replace(loaded.config.data, length=16)
    )
    trained = dataclasses.replace(loaded, info=trained, config=config)
    assert exporter._max_length(trained) == 16
    settings = FOLDERS["bert_cls"].files["tokenizer_config.json"] | {"model_max_length": 20}
    files = FOLDERS["bert_cls"].files | {"tokenizer_config.json": settings}
    found = read(changed("bert_cls", files=files), tmp_path)
    assert found.config.data.length == 20
    importer.save(found, str(tmp_path / "ours"))
    exporter.export(str(tmp_path / "ours"), str(tmp_path / "theirs"))
    written = json.loads((tmp_path / "theirs" / "tokenizer_config.json").read_text())
    assert written["model_max_length"] == 20


# How a folder makes vectors


def vectors(path: str, *texts: str, **changes) -> np.ndarray:
    loaded = load_model(path)
    recipe = dataclasses.replace(embedding.recipe_of(loaded), **changes)
    return embedding.embed(loaded, [{"id": "", "text": text} for text in texts], recipe)


MODULES = FOLDERS["pooling_cls"].files["modules.json"]
MEAN = FOLDERS["pooling_cls"].files | {
    "modules.json": [
        dict(path="", type="sentence_transformers.base.modules.transformer.Transformer"),
        dict(
            path="1_Pooling",
            type="sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        ),
        dict(path="2_Normalize", type="sentence_transformers.models.Normalize"),
    ],
    "1_Pooling/config.json": dict(embedding_dimension=16, pooling_mode="mean", include_prompt=True),
    "sentence_bert_config.json": dict(max_seq_length=8, do_lower_case=False),
    "config_sentence_transformers.json": dict(
        prompts={"query": "cat sat ", "document": ""},
        default_prompt_name="query",
        similarity_fn_name="dot",
    ),
}


def test_the_first_tokens_vector_where_the_folder_asks_for_it(checkpoint):
    found = vectors(checkpoint("pooling_cls"), "a cat sat")[0, :4]
    np.testing.assert_allclose(found, [0.07662243, 1.4332495, 1.1644732, 1.1661538], atol=1e-5)


def test_pooling_length_norm_and_prompt_come_in_and_go_out(tmp_path, capsys):
    source = build(changed("pooling_cls", files=MEAN), tmp_path / "source")
    texts = ["a cat sat", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 a"]  # the second is cut to 8 tokens
    right = [[0.05624648, -0.04114977, 0.26934984], [0.11716197, -0.0009613, 0.328252]]
    for name in ("ours", "again"):
        importer.save(importer.read(str(source)), str(tmp_path / name))
        found = vectors(str(tmp_path / name), *texts)
        np.testing.assert_allclose(found[:, :3], right, atol=1e-6)
        source = tmp_path / f"{name}-exported"
        exporter.export(str(tmp_path / name), str(source))
    found = vectors(str(tmp_path / "ours"), texts[0], prompt="")[0, :3]
    np.testing.assert_allclose(found, [0.06456059, -0.07043305, 0.34557498], atol=1e-6)
    settings = json.loads((source / "sentence_bert_config.json").read_text())
    assert settings == {"max_seq_length": 8, "do_lower_case": False}
    settings = json.loads((source / "config_sentence_transformers.json").read_text())
    assert settings["similarity_fn_name"] == "dot"
    (tmp_path / "in.txt").write_text(texts[0])
    command = ["embed", f"--checkpoint={tmp_path}/ours", f"--input={tmp_path}/in.txt"]
    command.append(f"--output={tmp_path}/out.npz")
    assert cli.main([*command, "--normalize=false"]) == 0
    told = capsys.readouterr().out
    assert "pooling: mean (from the imported" in told and "normalize: false (by its flag" in told
    assert np.linalg.norm(np.load(tmp_path / "out.npz")["vectors"]) > 1.1
    assert cli.main([*command, "--prompt=quary"]) == 2
    assert "did you mean 'query'?" in capsys.readouterr().err


def test_the_encoder_may_have_a_folder_of_its_own(tmp_path):
    """As sentence-transformers wrote all folders until its version 2."""
    source = build(changed("pooling_cls", files=MEAN), tmp_path / "source")
    inner = source / "0_Transformer"
    inner.mkdir()
    for file in list(source.glob("*.*")):
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(inner / file.name)
    modules = json.loads((source / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (source / "modules.json").write_text(json.dumps(modules))
    found = importer.read(str(source))
    assert found.vectors == embedding.Recipe(
        "mean", True, {"query": "cat sat "}, "query", similarity="dot"
    )
    assert found.config.data.length == found.max_length == 8
    assert found.source.where == str(source) and found.source.tokenizer.vocab_size == 41


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"1_Pooling/config.json": dict(pooling_mode_max_tokens=True)}, "pooling max is not"),
        ({"1_Pooling/config.json": dict(pooling_mode="weightedmean")}, "weightedmean is not"),
        ({"1_Pooling/config.json": dict(pooling_mode=["cls", "mean"])}, "cls with mean is not"),
        (
            {"modules.json": [*MODULES, dict(path="2_Dense", type="sentence_transformers.Dense")]},
            "the step 'sentence_transformers.Dense' in '2_Dense' is not supported",
        ),
        ({"modules.json": MODULES[:1]}, "has no Pooling"),
        ({"sentence_bert_config.json": dict(do_lower_case=True)}, "do_lower_case=True is not"),
        ({"config_sentence_transformers.json": dict(truncate_dim=8)}, "truncate_dim=8 is not"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_vectors_that_are_not_computed_are_named(tmp_path, files, said):
    folder = changed("pooling_cls", files=FOLDERS["pooling_cls"].files | files)
    with pytest.raises(UserError, match=said):
        read(folder, tmp_path)

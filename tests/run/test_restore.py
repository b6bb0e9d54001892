"""Starting from a checkpoint: restored, new, left and resized parts, and refusals."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from research import config as configs
from research.checkpoints.checkpoint import write_checkpoint
from research.errors import UserError
from research.models import params as parameters
from research.run import restore
from research.run.run import build
from tests import helpers

PRETRAINED = {"kind": "checkpoint"}
SHAPE = {"preset": "checkpoint"}


def values_of(kind: str, folder, **changes) -> dict:
    """A run that starts from FOLDER/checkpoint, its shape and tokenizer."""
    values = helpers.run_values(kind, folder, steps=2)
    start = {"init_from": str(folder / "checkpoint"), "model": SHAPE, "tokenizer": PRETRAINED}
    return values | start | changes


def built(values: dict, devices: int = 1):
    config = configs.from_values(values)
    return build(config, jax.devices()[:devices], quiet=True)


def write(folder, run, params) -> None:
    config, tokens = configs.to_values(run.config), run.tokenizer.to_json()
    write_checkpoint(str(folder), 5, params, config, tokens, {"metrics": {}, "data": ""})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a BERT's checkpoint; the fixture `stored` returns its parameters."""
    folder = tmp_path_factory.mktemp("restore")
    run = build(helpers.run_config("bert", folder, steps=2), jax.devices()[:1], quiet=True)
    write(folder / "checkpoint", run, helpers.new_params(run.model, run.objectives))
    return folder


@pytest.fixture(scope="module")
def stored(folder):
    run = build(helpers.run_config("bert", folder, steps=2), jax.devices()[:1], quiet=True)
    return helpers.new_params(run.model, run.objectives)


@pytest.mark.smoke
def test_a_task_gets_the_backbone_bit_for_bit_and_a_new_head(folder, stored):
    run = built(values_of("sentiment", folder), devices=8)
    params, table = restore.initial_params(run)
    assert helpers.identical(params["backbone"], stored["backbone"])
    assert set(params["heads"]) == {"sequence_classification"}
    assert table.parts == {
        "backbone": f"restored from {folder / 'checkpoint'}, step 5",
        "head sequence_classification": "new",
        "head masked_lm": "left in the checkpoint",
        "head next_sentence": "left in the checkpoint",
    }
    lines = str(table).splitlines()
    assert len(lines) == 4 and all(line.startswith("  ") for line in lines)
    wanted = jax.tree.leaves(run.param_shardings)
    assert [leaf.sharding for leaf in jax.tree.leaves(params)] == wanted


def test_parameters_restored_onto_a_mesh_are_the_same_bits(folder, stored):
    run = built(values_of("sentiment", folder, mesh={"data": 1, "fsdp": 8}), devices=8)
    params, _ = restore.initial_params(run)
    assert helpers.identical(params["backbone"], stored["backbone"])
    assert not params["backbone"]["embedding"]["word"].is_fully_replicated


def test_continued_pre_training_restores_heads_of_the_same_name(folder, stored):
    values = values_of("bert", folder, objective={"masked_lm": {}})
    params, table = restore.initial_params(built(values))
    assert helpers.identical(params["heads"]["masked_lm"], stored["heads"]["masked_lm"])
    assert table.parts["head masked_lm"] == "restored"
    assert table.parts["head next_sentence"] == "left in the checkpoint"


def test_another_objective_starts_from_the_same_backbone(folder, stored):
    """A causal model of word pieces needs an end of text; a task's new token gives one."""
    tokens = PRETRAINED | {"add_tokens": ["<|endoftext|>"]}
    values = values_of("bert", folder, objective={"causal_lm": {}}, tokenizer=tokens)
    params, table = restore.initial_params(built(values))
    assert params["heads"] == {}
    assert np.array_equal(
        params["backbone"]["layers"]["mlp"]["up"]["kernel"],
        stored["backbone"]["layers"]["mlp"]["up"]["kernel"],
    )
    assert table.parts["head masked_lm"] == "left in the checkpoint"


def test_a_classifier_of_other_labels_gives_its_backbone_and_not_its_head(folder, tmp_path):
    labelled = values_of("sentiment", folder)
    run = built(labelled)
    whole = helpers.new_params(run.model, run.objectives)
    write(tmp_path / "three", run, whole)
    again = labelled | {"init_from": str(tmp_path / "three")}
    params, table = restore.initial_params(built(again))
    assert helpers.identical(params["heads"], whole["heads"])
    assert table.parts["head sequence_classification"] == "restored"
    task = labelled["task"] | {"labels": [*helpers.LABELS, "c", "d"]}
    params, table = restore.initial_params(built(again | {"task": task}))
    assert helpers.identical(params["backbone"], whole["backbone"])
    assert params["heads"]["sequence_classification"]["output"]["kernel"].shape == (16, 5)
    assert table.parts["head sequence_classification"] == (
        "new: its output/bias is [3] in the checkpoint, [5] here"
    )


def test_outputs_of_a_restored_head_keep_their_meaning(folder, tmp_path):
    labelled = values_of("sentiment", folder)
    run = built(labelled)
    write(tmp_path / "three", run, helpers.new_params(run.model, run.objectives))
    again = labelled | {"init_from": str(tmp_path / "three")}
    turned = list(reversed(helpers.LABELS))
    with pytest.raises(UserError, match=r"in its order, '--config.task.labels=\[.good"):
        restore.initial_params(built(again | {"task": labelled["task"] | {"labels": turned}}))
    fresh = again | {"init": "fresh", "task": labelled["task"] | {"labels": turned}}
    assert restore.initial_params(built(fresh))[1].parts["sequence_classification"] == "new"
    # Those of the examples are in the checkpoint's order, not in the alphabet's.
    named = built(again | {"task": labelled["task"] | {"labels": "auto"}})
    assert named.config.task.labels == helpers.LABELS != tuple(sorted(helpers.LABELS))
    others = [*helpers.LABELS[:2], "neither"]
    for split in ("train", "validation"):
        text = Path(labelled["data"][split].removeprefix("files:")).read_text()
        (tmp_path / f"{split}.jsonl").write_text(text.replace('"plain"', '"neither"'))
        again = again | {"data": again["data"] | {split: f"files:{tmp_path}/{split}.jsonl"}}
    renamed = again | {"task": labelled["task"] | {"labels": others}}
    assert restore.initial_params(built(renamed))[1].parts["head sequence_classification"] == (
        "restored; labels good, bad, plain become good, bad, neither"
    )


def test_fresh_takes_shape_and_tokenizer_but_no_weight(folder, stored):
    run = built(values_of("sentiment", folder, init="fresh"))
    params, table = restore.initial_params(run)
    assert table.parts == {"backbone": "new", "sequence_classification": "new"}
    ours, theirs = parameters.by_path(params["backbone"]), parameters.by_path(stored["backbone"])
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert not any(np.array_equal(ours[k], theirs[k]) for k in ours)
    kernels = [k for k in ours if k.endswith("kernel")]
    assert all(abs(np.std(ours[k]) / 0.02 - 1) < 0.3 for k in kernels), "not freshly drawn"


@pytest.mark.parametrize("count", [2, 200], ids=["within the padding", "beyond the padding"])
def test_added_tokens_get_new_rows_and_the_old_ones_stay(folder, stored, count):
    added = [f"[NEW{i}]" for i in range(count)]
    values = values_of("bert", folder, tokenizer=PRETRAINED | {"add_tokens": added})
    run = built(values)
    before = helpers.word_pieces().vocab_size
    assert run.model.vocab_size == run.tokenizer.vocab_size == before + count
    params, table = restore.initial_params(run)
    for old, new in (
        (stored["backbone"]["embedding"]["word"], params["backbone"]["embedding"]["word"]),
        (stored["heads"]["masked_lm"]["bias"], params["heads"]["masked_lm"]["bias"]),
    ):
        assert len(new) == run.model.padded_vocab
        assert np.array_equal(new[:before], old[:before])
        rows = min(len(old), before + count)
        assert not np.array_equal(new[before:rows], old[before:rows]), "rows of nothing"
    drawn = np.asarray(params["backbone"]["embedding"]["word"])[before : before + count]
    assert 0.01 < np.std(drawn) < 0.03, "new rows are drawn as at the start"
    text = f"resized from {before} to {before + count} rows for the tokens added"
    assert table.parts["backbone/embedding/word"] == text
    assert table.parts["heads/masked_lm/bias"] == text
    same = "backbone/layers/mlp/up/kernel"
    assert np.array_equal(parameters.by_path(params)[same], parameters.by_path(stored)[same])


def test_another_shape_is_refused_with_both_values(folder):
    values = values_of("sentiment", folder)
    values["model"] = {"preset": "bert_tiny", "width": 32, "mlp_width": 32, "max_positions": 48}
    with pytest.raises(UserError) as error:
        built(values)
    assert "model.width: 16 in the checkpoint, 32 here" in str(error.value)
    assert "model.preset=checkpoint" in str(error.value)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_backbone_of_other_parameters_is_refused_by_name(folder, stored, tmp_path, change):
    run = build(helpers.run_config("bert", folder, steps=2), jax.devices()[:1], quiet=True)
    params = jax.tree.map(lambda x: x, stored)
    dense = params["backbone"]["pooler"]["dense"]
    if change == "missing":
        del dense["bias"]
    elif change == "extra":
        dense["scale"] = dense["bias"]
    else:
        dense["bias"] = dense["bias"][:7]
    write(tmp_path / "odd", run, params)
    values = values_of("sentiment", folder, init_from=str(tmp_path / "odd"))
    with pytest.raises(UserError) as error:
        restore.initial_params(built(values))
    name = "scale" if change == "extra" else "bias"
    line = next(x for x in str(error.value).splitlines() if f"backbone/pooler/dense/{name}:" in x)
    expected = {
        "missing": "expected float32[16], found nothing",
        "extra": "expected nothing, found float32[16]",
        "shape": "expected float32[16], found float32[7]",
    }
    assert expected[change] in line


def test_a_checkpoint_without_a_backbone_is_refused(folder, stored, tmp_path):
    run = build(helpers.run_config("bert", folder, steps=2), jax.devices()[:1], quiet=True)
    write(tmp_path / "heads", run, {"heads": stored["heads"]})
    with pytest.raises(UserError, match="no backbone"):
        restore.initial_params(
            built(values_of("sentiment", folder, init_from=str(tmp_path / "heads")))
        )


def test_a_larger_tokenizer_without_listed_tokens_is_refused(folder):
    larger = {"kind": "wordpiece", "vocab_size": 190}
    with pytest.raises(UserError, match="190 entries.*180 rows.*add_tokens"):
        built(values_of("sentiment", folder, tokenizer=larger))


@pytest.mark.parametrize("init", ["restore", "fresh"])
def test_another_tokenizer_of_the_same_size_is_refused_where_weights_are_restored(folder, init):
    lower = {"kind": "wordpiece", "vocab_size": 120, "lowercase": True}
    values = values_of("sentiment", folder, tokenizer=lower, init=init)
    if init == "fresh":
        assert built(values).tokenizer.vocab_size <= 180
        return
    with pytest.raises(UserError, match="not the one that .*checkpoint was trained with"):
        built(values)


def test_the_data_of_a_task_are_its_examples_and_its_tokenizer(folder):
    keys = {
        built(values_of("sentiment", folder, **changes)).data_key
        for changes in (
            {},
            {"tokenizer": PRETRAINED | {"add_tokens": ["<x>"]}},
            {"seed": 3},
        )
    }
    assert len(keys) == 2


def test_keys_beside_the_preset_change_the_checkpoints_shape_even_to_their_defaults(folder):
    run = built(values_of("sentiment", folder))
    assert (run.model.dropout, run.model.attention_dropout) == (0.1, 0.1)
    changed = {"dropout": 0.0, "remat": "block"}
    assert dataclasses.asdict(helpers.ModelConfig())["dropout"] == 0.0
    run = built(values_of("sentiment", folder, model=SHAPE | changed))
    assert (run.model.dropout, run.model.remat, run.model.width) == (0.0, "block", 16)
    assert configs.from_values(configs.to_values(run.config)) == run.config

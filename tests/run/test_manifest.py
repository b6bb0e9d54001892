"""The manifest of a run: it matches the built run, and refuses what `build` refuses."""

import dataclasses

import jax
import pytest

from research.config import override
from research.errors import UserError
from research.run import manifest as manifests
from research.run.run import build
from tests import helpers

FROM = {"model": {"preset": "checkpoint"}, "tokenizer": {"kind": "checkpoint"}}


def test_it_has_the_shape_of_the_run_and_makes_nothing(tmp_path):
    config = helpers.run_config("bert", tmp_path, steps=2)
    manifest = manifests.resolve(config, dry=True)
    manifests.check(manifest, devices=4)
    assert manifest.stands_in and not (tmp_path / "cache").exists()
    built = build(config, jax.devices()[:1], quiet=True)
    assert manifest.config == dataclasses.replace(
        built.config, model=dataclasses.replace(built.model, vocab_size=180)
    )
    assert manifest.tokenizer.require("mask", "") is not None


def test_a_run_starts_from_one_that_is_not_there_yet(tmp_path):
    first = manifests.resolve(helpers.run_config("bert", tmp_path, steps=2), dry=True)
    values = helpers.run_values("sentiment", tmp_path, steps=2) | FROM | {"init_from": "later"}
    values["model"] = FROM["model"] | {"lora_rank": 2}
    config = override(values, {"task.labels": "auto"}, "test")
    second = manifests.resolve(config, first, dry=True)
    manifests.check(second, devices=1)
    assert second.stands_in and second.config.model.width == first.config.model.width == 16
    assert second.config.task.labels == tuple(sorted(helpers.LABELS))
    other = override(values, {"model.width": "32"}, "test")
    with pytest.raises(UserError, match="model.width: 16 in the checkpoint, 32 here"):
        manifests.resolve(other, first, dry=True)


@pytest.mark.parametrize(
    ("kind", "overrides", "said"),
    [
        ("bert", {"mesh.fsdp": "3"}, "fsdp=3"),
        ("bert", {"train.accumulation": "3"}, "config.train.accumulation=3 do not divide"),
        ("bert", {"data.weights": "[1]", "tokenizer.kind": "bytes"}, r"\[CLS\]"),
        ("bert", {"data.corpus": "['files:/nowhere.txt']"}, "/nowhere.txt"),
        ("bert", {"optimizer.freeze": "['embeding']"}, "'embeding' matches no parameter"),
        ("bert", {"model.pooler": "false"}, "config.model.pooler=true"),
        ("sentiment", {"task.labels": "['good', 'bad']"}, "'plain' is not one of"),
        ("sentiment", {"mesh.context": "5", "data.length": "48"}, "context=5"),
    ],
)
def test_it_refuses_what_a_build_refuses(tmp_path, kind, overrides, said):
    config = override(helpers.run_values(kind, tmp_path, steps=2), overrides, "test")
    with pytest.raises(UserError, match=said) as dry:
        manifests.check(manifests.resolve(config, dry=True), devices=1)
    with pytest.raises(UserError, match=said) as wet:
        build(config, jax.devices()[:1], quiet=True)
    assert str(dry.value) == str(wet.value)

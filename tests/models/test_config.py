"""Shapes of models: presets, and shapes that are rejected."""

import dataclasses

import pytest

from research.errors import UserError
from research.models import config as model_config
from research.models.config import ModelConfig


def test_the_vocabulary_is_padded_to_a_multiple_of_128():
    sizes = {1: 128, 128: 128, 129: 256, 30_522: 30_592, 50_257: 50_304}
    assert {n: ModelConfig(vocab_size=n).padded_vocab for n in sizes} == sizes


def test_every_preset_is_a_valid_shape_and_carries_its_name():
    for name in model_config.PRESETS:
        found = model_config.preset(name)
        model_config.check(found)
        assert found.preset == name and found.vocab_size == 0


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="bert_bsae.*did you mean 'bert_base'"):
        model_config.preset("bert_bsae")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3, "width": 128}, ["model.heads=3", "model.width=128", "2, 4"]),
        ({"layers": 0}, ["model.layers=0", "at least 1"]),
        ({"kv_heads": 3, "heads": 8}, ["model.kv_heads=3", "model.heads=8"]),
        ({"positions": "rope", "width": 6, "heads": 2}, ["rope", "even"]),
        ({"dropout": 1.0}, ["model.dropout=1.0", "[0, 1)"]),
        ({"attention_dropout": -0.1}, ["model.attention_dropout=-0.1"]),
    ],
)
def test_sizes_that_cannot_belong_together(changes, words):
    with pytest.raises(UserError) as error:
        model_config.check(ModelConfig(**changes))
    assert all(word in str(error.value) for word in words)


def test_keys_that_no_parameter_depends_on_are_no_shape():
    free = {f.name for f in dataclasses.fields(ModelConfig)} - set(model_config.SHAPE_KEYS)
    assert free == {
        "preset",
        "given",
        "dropout",
        "attention_dropout",
        "lora_dropout",
        "dtype",
        "remat",
        "attention",
        "initializer_range",
    }

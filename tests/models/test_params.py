"""The parameter tree: published counts, names, and the cost of its shapes."""

import dataclasses

import jax
import numpy as np
import pytest

from research.models import config as model_config
from research.models import heads
from research.models import params as parameters
from tests import helpers


def counted(preset: str, vocab_size: int, with_heads: bool = False) -> int:
    model = dataclasses.replace(model_config.preset(preset), vocab_size=vocab_size)
    both = {"masked_lm": heads.MaskedLM(model), "next_sentence": heads.Classifier(model, 2)}
    tree = parameters.shapes(model, both if with_heads else {})
    return parameters.count(tree, model)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("preset", "vocab_size", "count"),
    [
        # Encoder and pooler of the released BERT models (uncased, 30,522 pieces).
        ("bert_tiny", 30_522, 4_385_920),
        ("bert_mini", 30_522, 11_170_560),
        ("bert_small", 30_522, 28_763_648),
        ("bert_medium", 30_522, 41_373_184),
        ("bert_base", 30_522, 109_482_240),
        ("bert_large", 30_522, 335_141_888),
        # The released GPT-2 models.
        ("gpt2_small", 50_257, 124_439_808),
        ("gpt2_medium", 50_257, 354_823_168),
        ("gpt2_large", 50_257, 774_030_080),
        ("gpt2_xl", 50_257, 1_557_611_200),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset, vocab_size, count):
    assert counted(preset, vocab_size) == count


def test_bert_base_with_its_two_heads():
    assert counted("bert_base", 30_522, with_heads=True) == 110_106_428


def test_shapes_and_axes_allocate_nothing_and_fit_each_other():
    model = dataclasses.replace(model_config.preset("gpt2_xl"), vocab_size=50_257)
    before = sum(array.nbytes for array in jax.live_arrays())
    head = {"causal_lm": heads.OutputTable(model)}
    shapes = parameters.by_path(parameters.shapes(model, head))
    axes = parameters.logical_axes(model, head)
    axes = {
        "/".join(k.key for k in path): names
        for path, names in jax.tree_util.tree_leaves_with_path(
            axes, is_leaf=lambda x: isinstance(x, tuple)
        )
    }
    assert sum(array.nbytes for array in jax.live_arrays()) - before < 1000
    assert shapes.keys() == axes.keys()
    for path, shape in shapes.items():
        assert isinstance(shape, jax.ShapeDtypeStruct) and shape.dtype == "float32"
        assert len(axes[path]) == len(shape.shape), path
        assert (axes[path][0] == "layers") == path.startswith("backbone/layers/"), path
        assert (shape.shape[0] == 48) == path.startswith("backbone/layers/"), path


def test_parameters_have_the_names_that_are_documented():
    model = helpers.bert()
    tree = parameters.by_path(parameters.shapes(model, {"masked_lm": heads.MaskedLM(model)}))
    assert tree["backbone/layers/mlp/up/kernel"].shape == (2, 16, 32)
    assert tree["backbone/layers/attention/query/kernel"].shape == (2, 16, 2, 8)
    assert tree["backbone/embedding/word"].shape == (256, 16)
    assert tree["heads/masked_lm/bias"].shape == (256,)
    assert {path.split("/")[0] for path in tree} == {"backbone", "heads"}
    assert {path.split("/")[1] for path in tree if path.startswith("backbone")} == {
        "embedding",
        "layers",
        "pooler",
    }


MODEL = helpers.bert(width=64, heads=4, mlp_width=256, layers=3)


@pytest.fixture(scope="module")
def made():
    """Parameters with one head, with two, and from another key."""
    one = {"masked_lm": heads.MaskedLM(MODEL)}
    two = one | {"next_sentence": heads.Classifier(MODEL, 2)}

    def make(key, other):
        found = [parameters.init(key, MODEL, h) for h in (one, two)]
        return *found, parameters.init(other, MODEL, {})

    return jax.jit(make)(jax.random.key(0), jax.random.key(1))


def test_initial_values(made):
    for path, leaf in parameters.by_path(made[0]).items():
        name = path.rsplit("/", 1)[-1]
        assert leaf.dtype == "float32"
        if name == "bias":
            assert not np.any(leaf), path
        elif name == "scale":
            assert (np.asarray(leaf) == 1).all(), path
        else:
            # The standard deviation of n normal draws has a relative error of 1 / sqrt(2 n).
            share = float(np.std(leaf)) / MODEL.initializer_range
            assert abs(share - 1) < 5 / np.sqrt(2 * leaf.size), path
            if path.startswith("backbone/layers/"):
                assert not np.array_equal(leaf[0], leaf[1]), f"layers alike: {path}"


def test_a_head_starts_alike_whatever_heads_are_beside_it(made):
    alone, beside, other = made
    assert helpers.identical(alone["heads"]["masked_lm"], beside["heads"]["masked_lm"])
    assert helpers.identical(alone["backbone"], beside["backbone"])
    word = [params["backbone"]["embedding"]["word"] for params in (alone, other)]
    assert not np.array_equal(*word)


def test_a_head_without_parameters_has_no_entry():
    model = helpers.gpt()
    assert parameters.shapes(model, {})["heads"] == {}

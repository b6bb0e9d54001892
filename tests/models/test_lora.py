"""Adapters start as zero, are trained alone, are restored beside a backbone, and merge."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import config as configs
from research.checkpoints import checkpoint
from research.errors import UserError
from research.models import lora, transformer
from research.models.params import by_path
from research.run.loaded import load_model
from research.run.run import build
from research.training import loop
from tests import helpers

ALL = ("attention/", "mlp/")
ADAPTED = {"lora_rank": 3, "lora_alpha": 6.0, "lora": ALL}


def batch(model):
    draw = np.random.default_rng(0)
    tokens = jnp.asarray(draw.integers(5, model.vocab_size, (2, 12)))
    segments = jnp.asarray(np.repeat([[1] * 7 + [2] * 5], 2, 0))
    positions = jnp.asarray(np.repeat([[*range(7), *range(5)]], 2, 0))
    types = jnp.zeros_like(tokens)
    return {"tokens": tokens, "segments": segments, "positions": positions, "token_types": types}


def hidden(params, model):
    return transformer.apply(params["backbone"], model, batch(model), "full")


def without(params):
    """The same parameters with adapters whose B is zero."""
    leaves = [0 * x if p.endswith("_lora/b") else x for p, x in by_path(params).items()]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


@pytest.mark.parametrize("family", [helpers.bert, helpers.gpt])
@pytest.mark.parametrize("changes", [{}, {"gated": True, "kv_heads": 1}])
def test_merged_is_the_same_function(family, changes):
    model = family(**ADAPTED, **changes)
    params = helpers.new_params(model)
    plain = family(**changes)
    merged = lora.merged(params, model)
    shapes = helpers.new_params(plain)
    assert jax.tree.structure(merged) == jax.tree.structure(shapes)
    with_adapters = hidden(params, model)
    np.testing.assert_allclose(hidden(merged, plain), with_adapters, atol=1e-4)
    assert np.abs(hidden(without(params), model) - with_adapters).max() > 0.1


def test_an_adapter_begins_as_nothing():
    from research.models import params as parameters

    model = helpers.bert(**ADAPTED)
    params = parameters.init(jax.random.key(0), model, {})
    for path, x in by_path(params).items():
        if path.endswith("_lora/b"):
            assert not np.any(x)
        if path.endswith("_lora/a"):
            assert np.any(x)


def test_only_what_the_patterns_fit_is_adapted():
    model = helpers.gpt(lora_rank=2, lora=("attention/(query|value)", "down"))
    params = helpers.new_params(model)
    found = {p.split("/")[-2] for p in by_path(params) if "_lora/" in p}
    assert found == {"query_lora", "value_lora", "down_lora"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": ("attention/qerry",)}, "'attention/qerry' matches no layer; .*query"),
        ({"lora": ("mlp/gate",)}, "'mlp/gate' matches no layer"),
    ],
)
def test_what_is_wrong_is_named(changes, said):
    with pytest.raises(UserError, match=said):
        lora.check(helpers.bert(**{"lora_rank": 2} | changes))


def test_dropout_of_an_adapter_has_keys_of_its_own():
    model = helpers.bert(**ADAPTED, lora_dropout=0.5)
    params = helpers.new_params(model)
    keys = jax.random.split(jax.random.key(0), 2)
    same, other = batch(model), jax.random.split(jax.random.key(1), 2)

    def run(row_keys):
        return transformer.apply(params["backbone"], model, same, "full", row_keys)

    assert np.array_equal(run(keys), run(keys)) and not np.allclose(run(keys), run(other))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder, the start's params, the run's config): a classifier with adapters, three steps."""
    folder = tmp_path_factory.mktemp("lora")
    start = build(helpers.run_config("bert", folder, steps=2), jax.devices()[:1], quiet=True)
    params = helpers.new_params(start.model, start.objectives)
    tokens = start.tokenizer.to_json()
    checkpoint.write_checkpoint(
        str(folder / "start"), 5, params, configs.to_values(start.config), tokens, {"metrics": {}}
    )
    values = helpers.run_values("sentiment", folder, steps=3)
    values |= {
        "init_from": str(folder / "start"),
        "tokenizer": {"kind": "checkpoint"},
        "model": {"preset": "checkpoint", **ADAPTED, "lora_dropout": 0.1},
        "mesh": {"data": 2, "fsdp": 4},
    }
    config = configs.from_values(values)
    loop.train(config, str(folder / "run"), quiet=True)
    return folder, params, config


def test_adapters_and_head_learn_alone(trained):
    folder, before, config = trained
    after = load_model(str(folder / "run"))
    old = by_path(before)
    for path, x in by_path(after.params).items():
        if "_lora/b" in path or path.endswith("output/kernel") and path.startswith("heads/"):
            assert np.any(x), path
        elif path.startswith("backbone/") and "_lora/" not in path:
            assert np.array_equal(x, old[path]), path
    assert after.model.lora_rank == 3


def test_what_is_frozen_has_no_optimizer_state(trained):
    _, _, config = trained
    run = build(config, quiet=True)
    state = jax.eval_shape(run.optimizer.init, run.param_shapes)
    learns = {p: x for p, x in by_path(run.param_shapes).items() if "_lora/" in p or "heads" in p}
    assert helpers.bytes_of(state) <= 2 * helpers.bytes_of(learns) + 100


def test_a_run_with_adapters_goes_on_where_it_was(trained, tmp_path):
    folder, _, config = trained
    shutil.copytree(folder / "run", tmp_path / "run")
    result = loop.train(config, str(tmp_path / "run"), quiet=True)
    assert result.step == 3
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines].count(3) >= 1


def test_an_export_has_the_adapters_in_its_kernels(trained, tmp_path):
    from research.convert import exporter, importer

    folder, _, _ = trained
    loaded = load_model(str(folder / "run"))
    exporter.export(str(folder / "run"), str(tmp_path / "out"))
    again = importer.read(str(tmp_path / "out"))
    merged = by_path(lora.merged(loaded.params, loaded.model))
    for path, x in by_path(again.params).items():
        rows = loaded.model.vocab_size if path.endswith("/word") else None
        np.testing.assert_array_equal(x[:rows], merged[path][:rows])

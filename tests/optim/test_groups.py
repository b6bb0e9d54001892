"""Learning rates by pattern and layer, freezing, and the table of groups."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.models.params import by_path
from research.optim import groups, matrices, optimizer
from research.optim.optimizer import OptimizerConfig
from tests import helpers
from tests.optim.test_optimizer import drawn

LAYERS = 3


def updates_of(**changes):
    """Updates of the first step by path, for a schedule without warm-up."""
    config = OptimizerConfig(learning_rate=0.1, warmup=0.0, schedule="constant", **changes)
    params, grads = drawn("params"), drawn("grads")
    rule = optimizer.make(config, 10, params)
    updates, state = jax.jit(lambda g, p: rule.update(g, rule.init(p), p))(grads, params)
    return by_path(updates), state


def test_a_pattern_multiplies_the_rate_of_what_it_fits():
    plain, _ = updates_of()
    slower, _ = updates_of(rates={"^backbone/": 0.1})
    for path, update in plain.items():
        share = 0.1 if path.startswith("backbone/") else 1.0
        np.testing.assert_allclose(slower[path], share * update, rtol=1e-6)


def test_the_last_pattern_that_fits_decides():
    plain, _ = updates_of()
    found, _ = updates_of(rates={"backbone": 0.1, "embedding": 0.5})
    path = "backbone/embedding/word"
    np.testing.assert_allclose(found[path], 0.5 * plain[path], rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [{"name": "lamb"}, {"name": "muon"}, {"name": "adafactor"}, {"layer_decay": 0.5},
     {"freeze": ("layers/01/",)}],
    ids=str,
)  # fmt: skip
def test_a_second_backbone_learns_as_the_first_does(changes):
    """Its layers (a generator's, for instance) are also treated one by one."""
    two = [tree | {"generator": tree["backbone"]} for tree in (drawn("params"), drawn("grads"))]
    config = OptimizerConfig(learning_rate=0.1, warmup=0.0, schedule="constant", **changes)
    rule = optimizer.make(dataclasses.replace(config, clip=0.0), 10, two[0])
    updates = by_path(rule.update(two[1], rule.init(two[0]), two[0])[0])
    for path, update in updates.items():
        if path.startswith("backbone/"):
            other = updates[path.replace("backbone/", "generator/")]
            np.testing.assert_array_equal(update, other, path)


def test_patterns_see_the_number_of_a_layer():
    plain, _ = updates_of()
    found, _ = updates_of(rates={"layers/01/": 0.0})
    path = "backbone/layers/mlp/up/kernel"
    np.testing.assert_allclose(found[path], plain[path] * np.array([1, 0, 1])[:, None, None])


def test_each_layer_below_learns_slower():
    plain, _ = updates_of()
    found, _ = updates_of(layer_decay=0.5)
    path = "backbone/layers/mlp/up/kernel"
    shares = np.array([0.125, 0.25, 0.5])[:, None, None]
    np.testing.assert_allclose(found[path], plain[path] * shares, rtol=1e-6)
    word, head = "backbone/embedding/word", "heads/task/output/kernel"
    np.testing.assert_allclose(found[word], plain[word] / 16, rtol=1e-6)
    np.testing.assert_allclose(found[head], plain[head], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lamb", "adafactor", "muon"])
def test_what_is_frozen_stays_and_takes_no_memory(name):
    _, whole = updates_of(name=name, average=0.9)
    found, state = updates_of(name=name, average=0.9, freeze=("^backbone/",))
    for path, update in found.items():
        assert np.any(update) == path.startswith("heads/"), path
    sizes = [helpers.bytes_of(s) for s in (whole, state)]
    params = by_path(drawn("params"))
    heads = sum(x.nbytes for path, x in params.items() if path.startswith("heads/"))
    assert sizes[1] < 3 * heads + 100 < sizes[0]


def test_only_a_trained_part_counts_for_the_clip():
    config = OptimizerConfig(clip=1.0, freeze=("^backbone/",))
    params = drawn("params")
    grads = jax.tree.map(lambda x: 1e6 * x, drawn("grads"))
    grads["heads"] = jax.tree.map(lambda x: 1e-9 * x, grads["heads"])
    rule = optimizer.make(config, 10, params)
    _, state = rule.update(grads, rule.init(params), params)
    moments = [x for x in jax.tree.leaves(state) if x.ndim]
    assert max(float(jnp.abs(x).max()) for x in moments) > 1e-6


def test_the_table_lists_groups_rates_and_counts():
    shapes = drawn("params")
    rates = groups.multipliers(shapes, {"embedding": 0.1}, ("layers/00/",), 1.0)
    text = "\n".join(groups.table(shapes, rates, 1e-3))
    assert "1.00e-03" in text and "1.00e-04" in text and "frozen" in text
    word_and_norm, layer = 6 * 4 + 8, 4 * 5 + 5 + 4
    assert f"{word_and_norm:,} parameters: backbone/embedding" in text
    assert f"{layer:,} parameters: backbone/layers/00" in text
    assert "frozen in some layers only" in text and "backbone/layers/mlp/up/kernel" in text
    total = sum(g.count for g in groups.grouped(shapes, rates))
    assert total == sum(x.size for x in jax.tree.leaves(shapes))


def test_a_run_with_one_rate_prints_no_table():
    shapes = drawn("params")
    assert groups.table(shapes, groups.multipliers(shapes, {}, (), 1.0), 1e-3) == []


@pytest.mark.parametrize("changes", [{"rates": {"embeding": 0.1}}, {"freeze": ("layers/03",)}])
def test_a_pattern_that_fits_nothing_is_an_error_that_names_it(changes):
    pattern = next(iter(next(iter(changes.values()))))
    with pytest.raises(UserError, match=f"'{pattern}' matches no parameter; .*backbone/"):
        optimizer.make(OptimizerConfig(**changes), 10, drawn("params"))


def test_muon_turns_each_layers_kernel_into_one_of_equal_singular_values():
    plain, _ = updates_of(weight_decay=0.0)
    found, _ = updates_of(name="muon", weight_decay=0.0)
    path = "backbone/layers/mlp/up/kernel"
    for layer in np.asarray(found[path]):
        values = np.linalg.svd(layer, compute_uv=False)
        assert values.max() / values.min() < 2.0
        assert np.sqrt(np.mean(layer**2)) == pytest.approx(0.1 * matrices.MUON_RMS, rel=0.3)
    for path in ("backbone/embedding/word", "heads/task/output/kernel"):
        np.testing.assert_allclose(found[path], plain[path], rtol=0.05)


def test_adafactor_keeps_rows_and_columns_only():
    shapes = {"heads": {"task": {"kernel": jnp.ones((256, 512))}}}
    rule = optimizer.make(OptimizerConfig(name="adafactor"), 10, shapes)
    assert helpers.bytes_of(rule.init(shapes)) < 4 * (256 + 512) + 100


def test_a_kernel_split_in_heads_is_one_matrix_to_adafactor():
    split = {
        "backbone": {"layers": {"attention": {"output": {"kernel": jnp.ones((2, 4, 64, 256))}}}}
    }
    rule = matrices.adafactor()
    assert helpers.bytes_of(rule.init(split)) < 2 * (4 * (256 + 256) + 100)


def test_the_average_follows_and_is_exchanged_with_what_learns():
    from research.optim import averaging

    params = drawn("params")
    rule = optimizer.make(
        OptimizerConfig(average=0.5, warmup=0.0, freeze=("embedding",)), 10, params
    )
    now, state, mean = params, rule.init(params), by_path(params)
    for step in range(3):
        updates, state = rule.update(drawn("grads", step), state, now)
        now = optax.apply_updates(now, updates)
        keep = min(0.5, (1 + step) / (10 + step))
        mean = {p: keep * mean[p] + (1 - keep) * x for p, x in by_path(now).items()}
    published, kept = averaging.exchanged(now, state)
    for path, value in by_path(published).items():
        np.testing.assert_allclose(value, mean[path], rtol=1e-5, atol=1e-7)
    again, back = averaging.exchanged(published, kept)
    jax.tree.map(np.testing.assert_array_equal, again, now)
    jax.tree.map(np.testing.assert_array_equal, back, state)
    untouched = averaging.exchanged(now, ())
    assert untouched == (now, ())

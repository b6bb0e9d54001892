"""Schedules at named steps, decay by name, LAMB by layer, clipping."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.draws import generator
from research.models import params as parameters
from research.optim import optimizer
from research.optim.optimizer import OptimizerConfig
from tests import helpers

STEPS = 100
TINY = {
    "backbone": {
        "embedding": {"word": (6, 4), "norm": {"scale": (4,), "bias": (4,)}},
        "layers": {
            "mlp": {"up": {"kernel": (3, 4, 5), "bias": (3, 5)}},
            "norm": {"scale": (3, 4)},
        },
    },
    "heads": {"task": {"output": {"kernel": (4, 2), "bias": (2,)}}},
}


def drawn(*key) -> dict:
    draw = generator(*key)
    return jax.tree.map(
        lambda shape: jnp.asarray(draw.normal(size=shape), jnp.float32),
        TINY,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def updated(config: OptimizerConfig, grads: dict, params: dict) -> tuple[dict, tuple]:
    """(updates, state) of the first step."""
    rule = optimizer.make(config, STEPS, params)
    return jax.jit(lambda g, p: rule.update(g, rule.init(p), p))(grads, params)


def rates(**changes) -> np.ndarray:
    config = OptimizerConfig(**({"learning_rate": 1.0, "warmup": 0.1} | changes))
    schedule = optimizer.schedule(config, STEPS)
    return np.array([float(schedule(step)) for step in range(STEPS + 1)])


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd", "constant"])
def test_every_schedule_rises_from_above_zero_to_its_peak(name):
    found = rates(schedule=name)
    assert np.allclose(found[:10], np.arange(1, 11) / 10)
    assert found[10] == pytest.approx(1.0)
    assert found.max() <= 1.0 + 1e-6 and (found[:STEPS] > 0).all()


def test_linear_falls_in_a_line():
    assert np.allclose(rates(schedule="linear")[10:], 1 - np.arange(91) / 90, atol=1e-6)
    assert rates(schedule="linear", end_share=0.2)[[10, 55, 100]] == pytest.approx([1, 0.6, 0.2])


def test_cosine_falls_in_a_half_wave():
    found = rates(schedule="cosine", end_share=0.1)
    expected = 0.1 + 0.9 * 0.5 * (1 + np.cos(math.pi * np.arange(91) / 90))
    assert np.allclose(found[10:], expected, atol=1e-6)


def test_wsd_holds_and_falls_over_the_last_share():
    found = rates(schedule="wsd", decay=0.2, end_share=0.5)
    assert np.allclose(found[10:81], 1.0)
    assert np.allclose(found[80:], 1 - 0.5 * np.arange(21) / 20, atol=1e-6)


def test_constant_stays():
    assert np.allclose(rates(schedule="constant")[10:], 1.0)


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd", "constant"])
@pytest.mark.parametrize("changes", [{"warmup": 0.0}, {"warmup": 1.0}, {"warmup": 0.01}])
def test_shares_at_the_edges(name, changes):
    found = rates(schedule=name, **changes)
    assert np.isfinite(found).all() and found.max() == pytest.approx(1.0)
    for steps in (1, 2, 3):
        config = OptimizerConfig(schedule=name, **changes)
        assert 0 < float(optimizer.schedule(config, steps)(0)) <= config.learning_rate * 1.0001


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_weight_decay_goes_by_name(name):
    """With a gradient of zero, only decayed params change."""
    params = drawn("params")
    config = OptimizerConfig(name=name, learning_rate=0.5, weight_decay=0.1, warmup=0.0)
    updates, _ = updated(config, jax.tree.map(jnp.zeros_like, params), params)
    moved = {p for p, u in parameters.by_path(updates).items() if np.any(u)}
    assert moved == {
        "backbone/embedding/word",
        "backbone/layers/mlp/up/kernel",
        "heads/task/output/kernel",
    }
    for path, update in parameters.by_path(updates).items():
        if path in moved and name == "adamw":
            assert np.allclose(update, -0.05 * parameters.by_path(params)[path], rtol=1e-5)


def test_matrices_and_tables_decay_whatever_the_family_and_nothing_else():
    for model in (helpers.bert(), helpers.gpt(norm="rmsnorm", gated=True)):
        for path in parameters.by_path(parameters.shapes(model, {})):
            table = path.startswith("backbone/embedding/") and "norm" not in path
            assert optimizer.decays(path) == (table or path.endswith("/kernel")), path


def unstacked(tree: dict) -> dict:
    """The same parameters with each layer a tensor of its own."""
    layers = tree["backbone"]["layers"]
    split = {str(i): jax.tree.map(lambda x, i=i: x[i], layers) for i in range(3)}
    return tree | {"backbone": tree["backbone"] | {"layers": {}, "unstacked": split}}


@pytest.mark.parametrize("name", ["lamb", "adafactor"])
def test_a_rule_on_stacked_layers_is_the_rule_on_each_layer(name):
    params = drawn("params")
    config = OptimizerConfig(name=name, learning_rate=0.1, warmup=0.0)
    found = []
    for trees in (lambda t: t, unstacked):
        now = trees(params)
        rule = optimizer.make(config, STEPS, now)
        state, update = rule.init(now), jax.jit(rule.update)
        for step in range(3):
            updates, state = update(trees(drawn("grads", step)), state, now)
            now = optax.apply_updates(now, updates)
        found.append(now)
    stacked, alone = unstacked(found[0]), found[1]
    difference, where = helpers.worst(stacked, alone)
    assert difference < 1e-5, where


def test_lamb_is_the_published_rule():
    """You et al. 2020, algorithm 2, with the identity as phi, on one tensor of one layer."""
    config = OptimizerConfig(
        name="lamb", learning_rate=0.1, warmup=0.0, schedule="constant", clip=0.0
    )
    params, grads = drawn("params"), drawn("grads")
    updates, _ = updated(config, grads, params)
    layer = "backbone/layers/mlp/up"
    for path, decay in ((f"{layer}/kernel", 0.01), (f"{layer}/bias", 0)):
        w = np.float64(parameters.by_path(params)[path][1])
        g = np.float64(parameters.by_path(grads)[path][1])
        u = g / (np.abs(g) + config.epsilon) + decay * w
        expected = -0.1 * np.linalg.norm(w) / np.linalg.norm(u) * u
        assert np.allclose(parameters.by_path(updates)[path][1], expected, rtol=1e-4), path


def test_a_tensor_of_zeros_is_moved_by_lamb_all_the_same():
    params, grads = drawn("params"), drawn("grads")
    params["heads"]["task"]["output"]["bias"] = jnp.zeros(2)
    config = OptimizerConfig(name="lamb", learning_rate=0.1, warmup=0.0)
    updates, _ = updated(config, grads, params)
    assert np.allclose(np.abs(updates["heads"]["task"]["output"]["bias"]), 0.1, rtol=1e-3)


def test_the_clip_bounds_the_global_norm():
    """Adam's update ignores the gradient's scale, so its first moment shows the input."""
    params, grads = drawn("params"), drawn("grads")
    norm = float(optax.global_norm(grads))
    for clip, share in ((norm / 4, 0.25), (norm * 2, 1.0), (0.0, 1.0)):
        _, state = updated(OptimizerConfig(clip=clip), grads, params)
        moment = next(s.mu for s in state if hasattr(s, "mu"))
        assert float(optax.global_norm(moment)) == pytest.approx(0.1 * share * norm, rel=1e-4)


def test_steps_are_given_or_come_from_epochs():
    assert optimizer.run_steps(7, 0.0, 100) == 7
    assert optimizer.run_steps(0, 1.5, 5) == 8
    assert optimizer.run_steps(0, 0.001, 5) == 1

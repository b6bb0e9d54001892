"""The train step: golden numbers, donation, one compilation, exact accumulation."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.loader import device_batch
from research.run import run as runs
from research.run import step as steps
from tests import helpers
from tests.golden import make as golden


@pytest.fixture(scope="module", params=golden.KINDS)
def run(request, tmp_path_factory):
    """A tiny run whose steps are compiled once for all tests of this module."""
    return golden.make_run(golden.KINDS[request.param], tmp_path_factory.mktemp("run"))


def name_of(run) -> str:
    return "sentiment" if run.task else "+".join(o.name for o in run.objectives)


@pytest.mark.smoke
def test_golden_steps(run):
    """After an intended change of these numbers run: python -m tests.golden.make."""
    expected, found = json.loads(golden.FILE.read_text())[name_of(run)], golden.numbers(run)
    for step, (wanted, got) in enumerate(zip(expected["steps"], found["steps"], strict=True)):
        for name, value in wanted.items():
            assert got[name] == pytest.approx(value, rel=1e-4), f"step {step}: {name}"
    assert found["params"].keys() == expected["params"].keys()
    for module, sums in expected["params"].items():
        assert found["params"][module] == pytest.approx(sums, rel=1e-4, abs=1e-3), module


def batch_of(run, step: int):
    return device_batch(run.train, step, run.batch_sharding)


def test_the_state_is_donated(run):
    state, batch = golden.start(run), batch_of(run, 0)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    memory = run.train_step.lower(state, batch).compile().memory_analysis()
    assert 0.99 * size <= memory.alias_size_in_bytes <= size
    run.train_step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_a_step_compiles_once_over_epochs(run):
    state = golden.start(run)
    last = 2 * run.train.epoch_batches(0) + 1
    for step in range(last):
        state, _ = run.train_step(state, batch_of(run, step))
    assert int(state.step) == last
    rows = {run.train.batch_rows(step) for step in range(last)}
    assert run.train_step._cache_size() == len(rows) <= (1 if run.task is None else 2)


def test_the_same_step_gives_the_same_bits_and_another_step_other_dropout(run):
    batch = batch_of(run, 0)
    (first, metrics), (again, _) = (run.train_step(golden.start(run), batch) for _ in range(2))
    assert helpers.identical(first, again)
    later = golden.start(run)._replace(step=jnp.full_like(golden.start(run).step, 5))
    assert float(run.train_step(later, batch)[1]["loss"]) != float(metrics["loss"])


def test_metrics_are_the_mean_losses_and_what_they_are_made_of(run):
    _, metrics = run.train_step(golden.start(run), batch_of(run, 0))
    means = [
        float(metrics[f"{o.name}/loss"]) / float(metrics[f"{o.name}/count"]) for o in run.objectives
    ]
    assert float(metrics["loss"]) == pytest.approx(sum(means), rel=1e-6)
    # At the start an objective knows nothing: about the logarithm of what it chooses among.
    assert all(0.3 < mean < 3 * np.log(run.model.vocab_size) for mean in means)


def test_evaluation_has_no_dropout(run):
    batch, params = batch_of(run, 0), golden.start(run).params
    first, again = run.eval_step(params, batch), run.eval_step(params, batch)
    assert helpers.identical(first, again)
    trained = run.train_step(golden.start(run), batch)[1]
    name = f"{run.objectives[0].name}/loss"
    assert float(first[name]) != float(trained[name])


def test_a_batch_without_weight_changes_no_gradient_and_gives_no_nan(run):
    batch = {
        name: x * 0 if name.endswith("_weights") else x for name, x in batch_of(run, 0).items()
    }
    weights = steps.total_weights(run.objectives, batch)
    assert all(float(weight) == 1.0 for weight in weights.values()), "0 / 0"
    state, metrics = run.train_step(golden.start(run), batch)
    assert float(metrics["gradient_norm"]) == 0.0 and float(metrics["loss"]) == 0.0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {
        "bert": helpers.make_store(folder, helpers.word_pieces()),
        "gpt": helpers.make_store(folder, helpers.byte_pairs()),
    }


@pytest.mark.parametrize(
    ("family", "dropout"),
    [("bert", 0.0), ("gpt", 0.0), pytest.param("bert", 0.1, marks=pytest.mark.long)],
)
def test_micro_batches_add_up_to_the_batch(stores, family, dropout):
    """Invariant: K micro-batches = one batch, with unequal counts and two losses. Dropout may be
    on, because its keys depend on the row."""
    chosen = helpers.CAUSAL if family == "gpt" else helpers.MASKED_AND_NEXT
    data, step = helpers.packed_and_padded(stores[family], chosen)
    batch = data.batch(step)
    model, objectives = helpers.pretraining_model(chosen, dropout=dropout)
    params = helpers.new_params(model, objectives)
    parts = steps._micro_batches(batch, 4, 1)
    for objective in objectives:
        counts = [float(objective.weight({k: v[i] for k, v in parts.items()})) for i in range(4)]
        assert len(set(counts)) > 1, f"{objective.name} counts alike: {counts}"
    keys = steps.row_keys(3, jnp.zeros((), int), batch["rows"]) if dropout else None
    found = [
        jax.jit(steps.gradients, static_argnums=(1, 2, 5))(
            params, model, objectives, batch, keys, k
        )
        for k in (1, 4)
    ]
    for grads, counts in found[1:]:
        difference, where = helpers.worst(found[0][0], grads)
        assert difference < 1e-4, where
        for name, count in counts.items():
            assert float(count) == pytest.approx(float(found[0][1][name]), rel=1e-5), name
    assert float(optax.global_norm(found[0][0])) > 0.1


def test_micro_batches_take_every_kth_row():
    parts = steps._micro_batches({"x": np.arange(12).reshape(6, 2)}, 3, 1)["x"]
    assert parts.tolist() == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]


def test_row_keys_depend_on_seed_step_and_row():
    rows = jnp.arange(4)
    data = [
        jax.random.key_data(steps.row_keys(seed, jnp.asarray(step), rows)).tolist()
        for seed, step in ((0, 0), (0, 1), (1, 0))
    ]
    keys = [tuple(key) for three in data for key in three]
    assert len(set(keys)) == 12
    moved = jax.random.key_data(steps.row_keys(0, jnp.asarray(0), rows[::-1]))
    assert moved.tolist() == data[0][::-1]


def test_a_deterministic_run_tells_the_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "DETERMINISTIC", {"no_such_option": True})
    run = runs.build(helpers.run_config("sentiment", tmp_path, steps=1, deterministic=True))
    batch = run.train.batch(0)
    for step, first in (
        (run.train_step, run.state_shapes),
        (run.eval_step, run.param_shapes),
        (run.measure_step, run.param_shapes),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
            step.lower(first, batch).compile()

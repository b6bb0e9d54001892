"""Prefix LM: predicted positions, attention, and the loss by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import cli
from research.config import from_values
from research.evaluation import predictor
from research.models import transformer
from research.objectives import make_objectives
from research.objectives.objective import heads_of
from research.run.loaded import load_model
from research.run.step import loss_and_counts, total_weights
from research.training import loop
from tests import helpers


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(data, batch, model, objectives, params)."""
    store = helpers.make_store(tmp_path_factory.mktemp("store"), helpers.byte_pairs())
    data, step = helpers.packed_and_padded(store, helpers.PREFIX)
    model, objectives = helpers.pretraining_model(helpers.PREFIX)
    return data, data.batch(step), model, objectives, helpers.new_params(model, objectives)


def segments_of(batch):
    """(row, its positions, how many of them are the prefix) of each segment."""
    for row, s in np.argwhere(batch["segment_weights"] > 0):
        places = np.arange(batch["first"][row, s], batch["last"][row, s] + 1)
        yield row, places, int(batch["prefix"][row, places].sum())


def test_each_segment_has_a_prefix_of_random_length_behind_which_all_is_predicted(made):
    data = made[0]
    shares = []
    for step in range(data.epoch_batches(0)):
        batch = data.batch(step)
        assert not batch["prefix"][batch["segments"] == 0].any()
        for row, places, prefix in segments_of(batch):
            assert 1 <= prefix <= max(1, len(places) - 1)
            assert batch["prefix"][row, places[:prefix]].all(), "the prefix comes first"
            expected = np.arange(len(places)) >= prefix - 1
            assert (batch["target_weights"][row, places] == expected).all()
            if len(places) > 20:
                shares.append((prefix - 1) / (len(places) - 2))
    assert len(shares) > 20 and abs(np.mean(shares) - 0.5) < 4 * 0.29 / np.sqrt(len(shares))
    again, other = (
        helpers.batches(data.store, helpers.PREFIX, seed=seed).batch(0) for seed in (0, 1)
    )
    first = helpers.batches(data.store, helpers.PREFIX, seed=0).batch(0)
    assert np.array_equal(again["prefix"], first["prefix"])
    assert not np.array_equal(other["prefix"], first["prefix"])


def test_the_loss_is_the_one_computed_by_hand(made):
    data, batch, model, objectives, params = made

    @jax.jit
    def run(params, batch):
        weights = total_weights(objectives, batch)
        hidden = transformer.apply(params["backbone"], model, batch, "prefix")
        return hidden, loss_and_counts(params, model, objectives, batch, weights)

    hidden, (total, counts) = jax.device_get(run(params, batch))
    table = np.float64(params["backbone"]["embedding"]["word"])[: data.tokenizer.vocab_size]
    logits = np.float64(hidden) @ table.T
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    loss = n = 0
    for row, places, prefix in segments_of(batch):
        for at in places[prefix - 1 :]:
            loss -= logp[row, at, batch["targets"][row, at]]
            n += 1
    assert total == pytest.approx(loss / n, rel=1e-5)
    assert counts["prefix_lm/count"] == n
    found = objectives[0].loss_metrics({"loss": loss, "correct": 1.0, "count": n})
    assert found["prefix_perplexity"] == pytest.approx(np.exp(loss / n))


def test_the_prefix_is_read_in_both_directions_and_what_follows_it_in_one(made):
    _, batch, model, objectives, params = made
    row, places, prefix = next(
        found for found in segments_of(batch) if 3 <= found[2] < len(found[1])
    )
    batch = jax.tree.map(jnp.asarray, batch)
    backbone = params["backbone"]
    x = transformer.embed(
        backbone, model, batch["tokens"], batch["positions"], batch["token_types"]
    )

    def output(x, at):
        segments, positions = batch["segments"], batch["positions"]
        hidden = transformer.encode(
            backbone, model, x, segments, positions, "prefix", prefix=batch["prefix"]
        )
        return jnp.sum(hidden[row, at] * jnp.arange(1.0, 17.0))

    gradient = jax.jit(jax.grad(output))
    for at in places:
        seen = np.abs(np.asarray(gradient(x, at)))[row].max(-1) > 0
        last = max(at + 1, places[0] + prefix)
        assert seen.nonzero()[0].tolist() == list(range(places[0], last))


def test_causal_and_prefix_lm_share_a_head():
    model = helpers.gpt(tied_embeddings=False)
    assert list(heads_of(make_objectives(helpers.PREFIX), model)) == ["causal_lm"]


@pytest.mark.long
def test_a_prefix_model_goes_on_from_a_prompt(tmp_path, capsys):
    values = helpers.run_values("gpt", tmp_path, steps=1)
    values |= {"objective": {"prefix_lm": {"chunk": 8}}, "mesh": {"data": 8}}
    loop.train(from_values(values), str(tmp_path / "run"), quiet=True)
    text = helpers.words()[0]
    (found,) = predictor.predict(load_model(str(tmp_path / "run")), [{"text": text}])
    assert len(found["next"]) == 5
    given = [f"--checkpoint={tmp_path / 'run'}", "--prompt", text, "--max_tokens=3"]
    assert cli.main(["generate", *given]) == 0
    assert text in capsys.readouterr().out

"""Causal LM, computed by hand from the hidden states of a tiny model."""

import jax
import numpy as np
import pytest

from research.models import transformer
from research.objectives import causal_lm, make_objectives
from research.run.step import loss_and_counts, total_weights
from tests import helpers


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """A packed batch with rows of padding, and a model's hidden states."""
    made = helpers.make_store(tmp_path_factory.mktemp("store"), helpers.byte_pairs())
    data, step = helpers.packed_and_padded(made, helpers.CAUSAL)
    batch = data.batch(step)
    model = helpers.gpt()
    objectives = make_objectives(helpers.CAUSAL)
    params = helpers.new_params(model, objectives)

    @jax.jit
    def run(params, batch):
        hidden = transformer.apply(params["backbone"], model, batch, "causal")
        weights = total_weights(objectives, batch)
        loss = loss_and_counts(params, model, objectives, batch, weights)
        return hidden, loss, objectives[0].outputs(params, model, hidden, batch)

    hidden, loss, outputs = jax.device_get(run(params, batch))
    table = np.float64(params["backbone"]["embedding"]["word"])[: data.tokenizer.vocab_size]
    logits = np.float64(hidden) @ table.T
    return batch, logits - np.log(np.exp(logits).sum(-1, keepdims=True)), loss, outputs


@pytest.mark.smoke
def test_the_loss_is_the_one_computed_by_hand(by_hand):
    batch, logp, (total, counts), _ = by_hand
    loss = correct = n = length = 0
    for row, at in np.argwhere(batch["segments"] > 0):
        target = batch["targets"][row, at]
        loss -= logp[row, at, target]
        correct += logp[row, at].argmax() == target
        length += helpers.byte_pairs().byte_lengths()[target]
        n += 1
    assert 0 < n < batch["tokens"].size and (batch["segments"].max(1) == 0).any()
    expected = {"loss": loss, "correct": correct, "count": n, "bytes": length}
    for name, value in expected.items():
        assert counts[f"causal_lm/{name}"] == pytest.approx(value, rel=1e-5), name
    assert len(counts) == len(expected)
    assert total == pytest.approx(loss / n, rel=1e-5)


def test_the_prediction_is_of_the_token_after_each_segment(by_hand):
    batch, logp, _, outputs = by_hand
    found = outputs["segment"]
    for row, segment in np.argwhere(batch["segment_weights"] > 0):
        own = logp[row, batch["last"][row, segment]]
        best = np.argsort(-own)[:5]
        assert found["token"][row, segment].tolist() == best.tolist()
        assert np.allclose(found["probability"][row, segment], np.exp(own[best]), atol=1e-6)


def test_metrics_are_means_of_the_sums():
    found = causal_lm.CausalLM().loss_metrics(
        {"loss": 8.0, "correct": 3.0, "count": 4.0, "bytes": 10.0}
    )
    assert found == {
        "loss": 2.0,
        "perplexity": pytest.approx(np.exp(2.0)),
        "bits_per_byte": pytest.approx(0.8 / np.log(2)),
        "next_token_accuracy": 0.75,
    }

"""Masked LM and next sentence prediction, computed by hand from the logits of a tiny model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.models import heads, transformer
from research.objectives import (
    ObjectivesConfig,
    for_evaluation,
    make_objectives,
    masked_lm,
    next_sentence,
)
from research.objectives.masked_lm import MaskedLMConfig
from research.objectives.objective import heads_of
from research.run.step import loss_and_counts, total_weights
from tests import helpers


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """A packed batch with rows of padding, and the logits of a tiny model in NumPy."""
    made = helpers.make_store(tmp_path_factory.mktemp("store"), helpers.word_pieces())
    data, step = helpers.packed_and_padded(made, helpers.MASKED_AND_NEXT)
    batch = data.batch(step)
    model = helpers.bert()
    objectives = make_objectives(helpers.MASKED_AND_NEXT)
    params = helpers.new_params(model, objectives)

    @jax.jit
    def run(params, batch):
        hidden = transformer.apply(params["backbone"], model, batch, "full")
        masked, bias = heads.MaskedLM(model).apply(
            {"params": params["heads"]["masked_lm"]},
            jax.vmap(lambda h, p: h[p])(hidden, batch["predict_positions"]),
        )
        first = jax.vmap(lambda h, p: h[p])(hidden, batch["first"])
        dense = params["backbone"]["pooler"]["dense"]
        pooled = jnp.tanh(first @ dense["kernel"] + dense["bias"])
        output = params["heads"]["next_sentence"]["output"]
        pairs = pooled @ output["kernel"] + output["bias"]
        weights = total_weights(objectives, batch)
        loss = loss_and_counts(params, model, objectives, batch, weights)
        outputs = {o.name: o.outputs(params, model, hidden, batch) for o in objectives}
        return masked @ params["backbone"]["embedding"]["word"].T + bias, pairs, loss, outputs

    return batch, jax.device_get(run(params, batch)), objectives


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.float64(logits)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.smoke
def test_the_losses_are_those_computed_by_hand(by_hand):
    batch, (vocabulary, pairs, (total, counts), _), _ = by_hand
    logp = log_softmax(vocabulary[..., : helpers.word_pieces().vocab_size])
    loss = correct = n = 0
    for row, place in np.argwhere(batch["predict_weights"] > 0):
        target = batch["predict_targets"][row, place]
        loss -= logp[row, place, target]
        correct += logp[row, place].argmax() == target
        n += 1
    pair_logp = log_softmax(pairs)
    pair_loss = pair_correct = pair_n = 0
    for row, segment in np.argwhere((batch["segment_weights"] > 0) & (batch["random_next"] >= 0)):
        label = batch["random_next"][row, segment]
        pair_loss -= pair_logp[row, segment, label]
        pair_correct += pair_logp[row, segment].argmax() == label
        pair_n += 1
    assert 0 < n < batch["predict_weights"].size and 0 < pair_n < batch["segment_weights"].sum()
    expected = {
        "masked_lm/loss": loss,
        "masked_lm/correct": correct,
        "masked_lm/count": n,
        "next_sentence/loss": pair_loss,
        "next_sentence/correct": pair_correct,
        "next_sentence/count": pair_n,
    }
    assert counts.keys() == expected.keys()
    for name, value in expected.items():
        assert counts[name] == pytest.approx(value, rel=1e-5), name
    assert total == pytest.approx(loss / n + pair_loss / pair_n, rel=1e-5)


def test_predictions_are_the_five_likeliest_and_the_probability_of_the_next(by_hand):
    batch, (vocabulary, pairs, _, outputs), _ = by_hand
    logp = log_softmax(vocabulary[..., : helpers.word_pieces().vocab_size])
    found = outputs["masked_lm"]["predict"]
    best = np.argsort(-logp, axis=-1)[..., :5]
    assert np.array_equal(found["token"], best)
    assert np.allclose(found["probability"], np.exp(np.take_along_axis(logp, best, -1)), atol=1e-6)
    shares = outputs["next_sentence"]["segment"]["probability"]
    assert shares.shape == (*batch["first"].shape, 2)
    assert np.allclose(shares, np.exp(log_softmax(pairs)), atol=1e-6)


def test_metrics_are_means_of_the_sums():
    found = masked_lm.MaskedLM().loss_metrics({"loss": 6.0, "correct": 1.0, "count": 4.0})
    assert found == {
        "masked_loss": 1.5,
        "masked_perplexity": pytest.approx(np.exp(1.5)),
        "masked_accuracy": 0.25,
    }
    found = next_sentence.NextSentence().loss_metrics({"loss": 3.0, "correct": 5.0, "count": 6.0})
    assert found == {
        "next_sentence_loss": 0.5,
        "next_sentence_accuracy": pytest.approx(5 / 6),
    }


def test_evaluation_masks_tokens_at_15_percent_whatever_the_training():
    trained = ObjectivesConfig(MaskedLMConfig(0.4, "span"), helpers.MASKED_AND_NEXT.next_sentence)
    for asked, expected in (
        (trained, helpers.MASKED_AND_NEXT),
        (helpers.CAUSAL, helpers.CAUSAL),
    ):
        measured = for_evaluation(make_objectives(asked))
        assert [o.options for o in measured] == [o.options for o in make_objectives(expected)]


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4])
def test_the_capacity_of_a_row_holds_what_one_segment_predicts(rate):
    for length in (8, 32, 128, 512):
        assert masked_lm.capacity(length, rate) >= max(1, round(rate * length))


def test_objectives_come_in_a_fixed_order_with_their_heads():
    names = [o.name for o in make_objectives(helpers.MASKED_AND_NEXT)]
    assert names == ["masked_lm", "next_sentence"]
    causal = make_objectives(helpers.CAUSAL)
    assert [o.name for o in causal] == ["causal_lm"] and heads_of(causal, helpers.gpt()) == {}
    untied = heads_of(causal, helpers.gpt(tied_embeddings=False))
    assert isinstance(untied["causal_lm"], heads.OutputTable)


def test_next_sentence_prediction_needs_a_pooler_or_a_head_with_a_transform():
    objectives = make_objectives(helpers.MASKED_AND_NEXT)
    found = heads_of(objectives, helpers.bert(pooler=False, head_transform=True))
    assert list(found) == ["masked_lm", "next_sentence"]
    with pytest.raises(UserError, match="config.model.pooler=true"):
        heads_of(objectives, helpers.bert(pooler=False))

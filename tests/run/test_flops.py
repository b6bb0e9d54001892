"""FLOPs by formula against what XLA counts in the compiled program."""

import jax
import pytest

from research.config import from_values
from research.data.batch import Layout
from research.models import params as parameters
from research.objectives import ObjectivesConfig, make_objectives
from research.objectives.causal_lm import CausalLMConfig
from research.objectives.objective import heads_of
from research.run import flops
from research.run.step import loss_and_counts
from tests import helpers


def counted(model, objectives, batch) -> float:
    """FLOPs of one row's forward pass, as XLA counts them."""
    params = parameters.shapes(model, heads_of(objectives, model))
    weights = {o.name: 1.0 for o in objectives}

    def loss(params, batch):
        return loss_and_counts(params, model, objectives, batch, weights)[0]

    compiled = jax.jit(loss).lower(params, batch).compile()
    return compiled.cost_analysis()["flops"] / len(batch["tokens"])


@pytest.mark.parametrize("causal", [False, True])
def test_the_formula_counts_the_matrix_products_that_xla_counts(causal, tmp_path):
    # XLA counts the body of a scan once: one layer, one chunk. Wide, so that products dominate.
    whole = ObjectivesConfig(causal_lm=CausalLMConfig(chunk=helpers.LENGTH))
    objectives = whole if causal else helpers.MASKED_AND_NEXT
    tokens = helpers.byte_pairs() if causal else helpers.word_pieces()
    data = helpers.batches(helpers.make_store(tmp_path, tokens), objectives, rows=2)
    shape = {"width": 256, "heads": 4, "mlp_width": 1024, "layers": 1}
    model, made = helpers.pretraining_model(objectives, **shape)
    places = helpers.LENGTH if causal else data.layout.predictions
    expected = flops.forward_per_row(model, data.layout, places)
    assert counted(model, made, data.batch(0)) == pytest.approx(expected, rel=0.08)


def test_a_step_is_three_forward_passes_of_its_rows(tmp_path):
    layout = Layout(64, 4, predictions=12)
    model, masked = helpers.pretraining_model(helpers.MASKED_AND_NEXT)
    once, whole = (flops.forward_per_row(model, layout, places) for places in (12, 64))
    assert flops.train_step(model, layout, 5, masked) == 15 * once
    mixed = from_values(helpers.run_values("mixture", tmp_path, steps=1)).objective
    # Of eight rows the four of masked LM have twelve places that meet the vocabulary.
    found = flops.train_step(model, layout, 8, make_objectives(mixed))
    assert found == 3 * (4 * once + 4 * whole)


def test_by_hand():
    model = helpers.gpt(width=8, heads=2, kv_heads=1, mlp_width=20, gated=True, layers=3)
    projections = 8 * 8 + 2 * 8 * 4 + 8 * 8  # query, key and value of one head, output
    blocks = 3 * (projections + 3 * 8 * 20 + 2 * 10 * 8) * 10
    vocabulary = 8 * model.padded_vocab
    assert flops.forward_per_row(model, Layout(10, 2), 10) == 2 * (blocks + 10 * vocabulary)
    layout = Layout(10, 2, predictions=4)
    assert flops.forward_per_row(model, layout, 4) == 2 * (blocks + 4 * vocabulary)


def test_the_peak_is_measured():
    assert 1e8 < flops.matmul_peak("float32", seconds=0.02) < 1e14

"""A mixture of objectives: rows of each, one step, and every part measured."""

import dataclasses

import jax
import numpy as np
import pytest

from research.config import from_values
from research.errors import UserError
from research.evaluation import predictor
from research.objectives import make_objectives
from research.run import corpus, step
from research.run.loaded import load_model
from research.sharding.mesh import MeshConfig, batch_sharding, make_mesh, use
from research.training import loop
from tests import helpers

PLACES = {"full": (0, 2, 4), "causal": (2, 3, 4), "prefix": (3, 4, 4)}


def tokens():
    return helpers.word_pieces().with_tokens((helpers.END_OF_TEXT,))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return helpers.run_config("mixture", tmp_path_factory.mktemp("mixture"), steps=2)


@pytest.fixture(scope="module")
def data(config):
    return corpus.pretraining(config, tokens(), 1, quiet=True)


@pytest.fixture(scope="module")
def made(config):
    """(model, objectives, params)."""
    model = helpers.bert(vocab_size=tokens().vocab_size)
    objectives = make_objectives(config.objective)
    return model, objectives, helpers.new_params(model, objectives)


def test_the_rows_are_those_of_each_objective_in_turn(data):
    train, batch = data.train, data.train.batch(1)
    assert train.batch_rows(0) == len(batch["rows"]) == 16
    for pattern, (first, end, cycle) in PLACES.items():
        rows = [r for r in range(16) if first <= r % cycle < end]
        part, share = train.parts[pattern], len(rows)
        for number, row in enumerate(rows):
            alone = part.batch(share + number)  # the first batch had as many
            for name in alone.keys() - {"rows"}:
                assert np.array_equal(batch[name][row], alone[name][0]), (pattern, name)
    causal = np.arange(16) % 4 >= 2
    assert (batch["target_weights"].sum(1) > 0).tolist() == causal.tolist()
    assert (batch["predict_weights"].sum(1) > 0).tolist() == (~causal).tolist()
    assert batch["prefix"].any(1).tolist() == (np.arange(16) % 4 == 3).tolist()


def test_a_batch_may_be_made_in_parts(data):
    whole = data.train.batch(3)
    parts = [data.train.batch(3, *span) for span in ((0, 5), (5, 16))]
    for name in whole:
        assert np.array_equal(whole[name], np.concatenate([part[name] for part in parts])), name


def test_the_gradient_is_that_of_each_part_by_its_share_of_the_rows(data, made):
    model, objectives, params = made
    batch = data.train.batch(0)
    expected, counts = None, {}
    for pattern, (first, end, cycle) in PLACES.items():
        rows = [r for r in range(16) if first <= r % cycle < end]
        part = {name: array[rows] for name, array in batch.items()}
        alone = [type(o)(o.options) for o in objectives if o.pattern == pattern]
        gradient, found = jax.jit(
            lambda p, b, alone=alone: step.gradients(p, model, alone, b, None, 1)
        )(params, part)
        share = len(rows) / 16
        gradient = jax.tree.map(lambda x, share=share: share * x, gradient)
        expected = gradient if expected is None else jax.tree.map(np.add, expected, gradient)
        counts |= found
    given = MeshConfig(data=1, fsdp=2, tensor=2)
    mesh = make_mesh(given, jax.devices()[:4])
    with use(mesh, given):
        found, together = jax.jit(
            lambda p, b: step.gradients(p, model, objectives, b, None, 2),
            in_shardings=(None, batch_sharding(mesh)),
        )(params, batch)
    difference, where = helpers.worst(expected, found)
    assert difference < 1e-4, where
    assert together.keys() == counts.keys()
    for name, value in counts.items():
        assert float(together[name]) == pytest.approx(float(value), rel=1e-5), name


def test_the_whole_split_is_measured_once_with_each_objective(data):
    validation = data.validation
    seen = {name: 0.0 for name in ("predict_weights", "slot_weights", "target_weights")}
    batches = validation.epoch_batches(0)
    for number in range(batches):
        batch = validation.batch(number)
        for name in seen:
            seen[name] += batch[name].sum()
    expected = dict.fromkeys(seen, 0.0)
    for part in validation.parts.values():
        for number in range(part.epoch_batches(0)):
            batch = part.batch(number)
            for name in expected.keys() & batch.keys():
                expected[name] += batch[name].sum()
    assert seen == expected and all(seen.values())
    assert not validation.batch(batches)["slots"].any(), "behind the end all rows are empty"


def test_rows_that_do_not_divide_name_the_cycle(config):
    values = dataclasses.replace(config.train, batch_size=6 * helpers.LENGTH, accumulation=1)
    with pytest.raises(UserError, match=r"x 4 rows of a mixture .* a multiple of 192 does"):
        corpus.batch_rows(dataclasses.replace(config, train=values), 1)


@pytest.mark.long
def test_it_trains_measures_and_answers_for_each(config, tmp_path):
    config = dataclasses.replace(config, mesh=MeshConfig(data=2, context=2, tensor=2))
    result = loop.train(config, str(tmp_path / "run"), quiet=True)
    names = ("masked_loss", "sentence_order_accuracy", "loss", "bits_per_byte", "prefix_loss")
    assert all(np.isfinite(result.metrics[name]) for name in names)
    loaded = load_model(str(tmp_path / "run"))
    text = helpers.words()[0]
    filled, ordered = predictor.predict(
        loaded, [{"text": f"{text} [MASK]."}, {"text_a": text, "text_b": text}]
    )
    assert len(filled["masks"][0]) == 5 and 0 < ordered["next_sentence_probability"] < 1
    assert len(predictor.continuation(loaded, text)) > 0


def test_sources_by_weight_and_objectives_by_rows_go_together(tmp_path):
    values = helpers.run_values("mixture", tmp_path, steps=1)
    second = helpers.write_corpus(tmp_path / "second.jsonl", 20, seed=5)
    values["data"] |= {"corpus": [*values["data"]["corpus"], second], "weights": (3.0, 1.0)}
    made = corpus.pretraining(from_values(values), tokens(), 1, quiet=True).train
    batch = made.batch(0)
    assert (batch["slots"].max(1) > 0).all()
    part = made.parts["causal"]
    assert np.array_equal(batch["tokens"][2], part.batch(0)["tokens"][0])

"""Mixtures of objectives by row (one step, every part measured), and of sources by weight."""

import dataclasses

import jax
import numpy as np
import pytest

from research.config import from_values
from research.data import store
from research.data.sources import SourceConfig
from research.errors import UserError
from research.evaluation import predictor
from research.objectives import make_objectives, mixture
from research.objectives.mixture import CYCLE, MixedBatches
from research.run import corpus
from research.run.loaded import load_model
from research.run.step import gradients
from research.sharding.mesh import MeshConfig, batch_sharding, make_mesh, use
from research.training import loop
from tests import helpers

PLACES = {"full": (0, 2, 4), "causal": (2, 3, 4), "prefix": (3, 4, 4)}


def tokens():
    return helpers.word_pieces().with_tokens((helpers.END_OF_TEXT,))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return helpers.run_config("mixture", tmp_path_factory.mktemp("mixture"), steps=2)


def pretraining(config):
    objectives = make_objectives(config.objective)
    groups = (config.data, config.train, objectives, config.seed)
    return corpus.pretraining(*groups, tokens(), 1, quiet=True)


@pytest.fixture(scope="module")
def data(config):
    return pretraining(config)


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


def test_the_gradient_is_that_of_each_part_by_its_share_of_the_rows(data, made):
    model, objectives, params = made
    batch = data.train.batch(0)
    expected, counts = None, {}
    for pattern, (first, end, cycle) in PLACES.items():
        rows = [r for r in range(16) if first <= r % cycle < end]
        part = {name: array[rows] for name, array in batch.items()}
        alone = [type(o)(o.options) for o in objectives if o.pattern == pattern]
        gradient, found = jax.jit(lambda p, b, alone=alone: gradients(p, model, alone, b, None, 1))(
            params, part
        )
        share = len(rows) / 16
        gradient = jax.tree.map(lambda x, share=share: share * x, gradient)
        expected = gradient if expected is None else jax.tree.map(np.add, expected, gradient)
        counts |= found
    given = MeshConfig(data=1, fsdp=2, tensor=2)
    mesh = make_mesh(given, jax.devices()[:4])
    with use(mesh, given):
        found, together = jax.jit(
            lambda p, b: gradients(p, model, objectives, b, None, 2),
            in_shardings=(None, batch_sharding(mesh)),
        )(params, batch)
    difference, where = helpers.worst(expected, found)
    assert difference < 1e-4, where
    assert together.keys() == counts.keys()
    for name, value in counts.items():
        assert float(together[name]) == pytest.approx(float(value), rel=1e-5), name


def test_the_whole_split_is_measured_once_with_each_objective(data):
    validation = data.validation
    seen = {name: 0.0 for name in ("predict_weights", "segment_weights", "target_weights")}
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
    assert not validation.batch(batches)["segments"].any(), "behind the end all rows are empty"


def test_rows_that_do_not_divide_name_the_cycle(config):
    values = dataclasses.replace(config.train, batch_size=6 * helpers.LENGTH, accumulation=1)
    with pytest.raises(UserError, match=r"x 4 rows of a mixture .* a multiple of 192 does"):
        corpus.batch_rows(config.data, values, 4, 1)


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
    made = pretraining(from_values(values)).train
    batch = made.batch(0)
    assert (batch["segments"].max(1) > 0).all()
    part = made.parts["causal"]
    assert np.array_equal(batch["tokens"][2], part.batch(0)["tokens"][0])


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two sources of different lengths, each with its own store."""
    folder = tmp_path_factory.mktemp("mixed")
    given = tuple(
        SourceConfig(helpers.write_corpus(folder / f"{n}.jsonl", count, seed=n))
        for n, count in enumerate((40, 10))
    )
    tokens = helpers.word_pieces()
    jobs = [store.Job(given, "train", 2.0, tokens, str(folder / "cache"), n) for n in (0, 1)]
    return [job.build(quiet=True) for job in jobs]


def make(stores, weights=(3.0, 1.0), rows=8, seed=0) -> MixedBatches:
    parts = [
        helpers.batches(made, helpers.MASKED_AND_NEXT, rows=1, seed=f"{seed} {n}")
        for n, made in enumerate(stores)
    ]
    return MixedBatches(parts, mixture.shares(weights, ("a", "b")), rows, seed)


def test_shares_are_the_weights_of_any_sum_and_fill_the_cycle():
    assert mixture.shares((3.0, 1.0), "ab").tolist() == [7500, 2500]
    assert mixture.shares((0.75, 0.25), "ab").tolist() == [7500, 2500]
    thirds = mixture.shares((1.0, 1.0, 1.0), "abc")
    assert sorted(thirds.tolist()) == [3333, 3333, 3334] and thirds.sum() == CYCLE
    with pytest.raises(UserError, match="weights: 1e-05 of 1.00001 for b is less than one row"):
        mixture.shares((1.0, 1e-5), "ab")


def test_rows_of_each_source_are_read_in_order_in_exact_shares(stores):
    data = make(stores)
    found = [data.place(row) for row in range(2 * CYCLE)]
    for source, share in ((0, 0.75), (1, 0.25)):
        assert [row for s, row in found if s == source] == list(range(int(share * 2 * CYCLE)))
    in_batches = np.array([s for s, _ in found]).reshape(-1, 100).mean(1)
    assert abs(in_batches - 0.25).max() < 0.2  # no long run of one source
    assert [s for s, _ in found[:CYCLE]] != [s for s, _ in found[CYCLE:]]


def test_a_batch_depends_on_seed_and_step_alone_and_may_be_made_in_parts(stores):
    data, fresh = make(stores), make(stores)
    steps = [data.batch(step) for step in range(12)]
    for step in (11, 0, 7):
        whole = fresh.batch(step)
        parts = [make(stores).batch(step, *span) for span in ((0, 3), (3, 8))]
        for name in whole:
            assert np.array_equal(whole[name], steps[step][name])
            assert np.array_equal(np.concatenate([p[name] for p in parts]), whole[name])
    other = make(stores, seed=1).batch(0)
    assert not np.array_equal(other["tokens"], steps[0]["tokens"])


def test_a_row_is_the_next_of_its_source_through_its_epochs(stores):
    data = make(stores, rows=1)
    small = data.parts[1]
    assert small.epoch_rows(0) < 100  # so that it is read several times
    seen = 0
    for step in range(600):
        source, row = data.place(step)
        if source == 1 and row % 17 == 0:
            expected = small.batch(row)
            assert np.array_equal(data.batch(step)["tokens"], expected["tokens"])
            seen = max(seen, small.locate(row)[0])
    assert seen >= 1


def test_a_pass_has_as_many_batches_as_full_rows_of_all_tokens(stores):
    data = make(stores)
    tokens = sum(made.counts["tokens"] for made in stores)
    assert data.epoch_batches(0) == -(-tokens // (8 * helpers.LENGTH))
    assert data.epoch_batches(0, most=2) == 2
    assert data.locate(data.epoch_batches(0) + 3) == (1, 3)


def test_other_weights_need_no_other_store_and_hold_out_the_same(tmp_path):
    values = helpers.run_values("bert", tmp_path, steps=2)
    values["data"]["corpus"].append(helpers.write_corpus(tmp_path / "b.jsonl", 30, seed=5))
    values["data"]["held_out_percent"] = 20.0
    made = []
    for weights in ((), (1.0, 1.0), (5.0, 1.0)):
        config = helpers.from_values(values | {"data": values["data"] | {"weights": weights}})
        tokenizer = corpus.make_tokenizer(config.tokenizer, config.data)
        objectives = make_objectives(config.objective)
        groups = (config.data, config.train, objectives, config.seed)
        made.append(corpus.pretraining(*groups, tokenizer, 2, quiet=True))
    alone, even, uneven = made
    assert even.key == uneven.key != alone.key
    assert alone.validation.store == even.validation.store == uneven.validation.store
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 4
    documents = alone.train.store.counts["documents"]
    assert sum(part.store.counts["documents"] for part in even.train.parts) == documents
    assert uneven.train.counts.tolist() == [8333, 1667]

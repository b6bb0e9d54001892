"""Invariant: a metric does not depend on batch size, packing, padding or mesh."""

import dataclasses

import jax
import numpy as np
import pytest

from research.evaluation import evaluator, validation
from research.objectives import ObjectivesConfig, for_evaluation, make_objectives
from research.objectives.batches import PretrainingBatches
from research.objectives.masked_lm import MaskedLMConfig
from research.objectives.sentence_pairs import SentencePairsConfig
from research.run import corpus
from research.run.run import build
from research.run.step import make_eval_step, make_predict_step
from research.sharding.mesh import MeshConfig, batch_sharding, make_mesh, replicated, use
from research.tasks import make_task
from research.tasks.batches import TaskBatches
from research.tasks.sequence_classification import SequenceClassificationConfig
from tests import helpers

ALONE = MeshConfig(data=1)
MANY = MeshConfig(data=4, tensor=2)


class Measure:
    """Losses of a model on any batches and mesh; one compilation for each shape."""

    def __init__(self, model, objectives):
        self.model, self.objectives = model, objectives
        self.params = helpers.new_params(model, objectives)

    def losses(self, data, mesh: MeshConfig = ALONE) -> dict[str, float]:
        devices = jax.devices()[: max(1, mesh.data * mesh.tensor)]
        made = make_mesh(mesh, devices)
        with use(made, mesh):
            step = jax.jit(
                make_eval_step(self.model, self.objectives),
                in_shardings=(replicated(made), batch_sharding(made)),
                out_shardings=replicated(made),
            )
            params = jax.device_put(self.params, replicated(made))
            return evaluator.losses(step, params, data, self.objectives, batch_sharding(made))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return helpers.make_store(tmp_path_factory.mktemp("store"), helpers.word_pieces())


@pytest.mark.smoke
def test_pre_training_metrics_are_of_the_split_alone(store):
    trained = ObjectivesConfig(MaskedLMConfig(0.4, "word"), SentencePairsConfig())
    options = [o.options for o in for_evaluation(make_objectives(trained))]
    measured = ObjectivesConfig(*options)
    measure = Measure(*helpers.pretraining_model(measured))

    def rows(count: int) -> PretrainingBatches:
        return helpers.batches(store, measured, count, corpus.EVAL_SEED, shuffle=False)

    assert rows(8).epoch_rows(0) % 8 and rows(24).epoch_rows(0) % 24, "no last batch to fill"
    expected = measure.losses(rows(8))
    assert set(expected) >= {"masked_loss", "masked_accuracy", "next_sentence_accuracy"}
    for found in (measure.losses(rows(24)), measure.losses(rows(8), MANY)):
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory):
    """Validation examples of the tiny sentiment task."""
    folder = tmp_path_factory.mktemp("sentiment")
    config = helpers.run_config("sentiment", folder, steps=1)
    return corpus.split(config.data, "classification", "validation").examples


def make(length: int, segments: int):
    config = SequenceClassificationConfig(helpers.LABELS, pooling="mean")
    model = helpers.bert(max_positions=64)
    return make_task(config, model, helpers.word_pieces(), length, segments), model


def batches(task, examples, size: int) -> TaskBatches:
    segments = [task.segments(e, i, True) for i, e in enumerate(examples)]
    return TaskBatches(segments, task.layout, helpers.word_pieces().pad, size, 0, shuffle=False)


def test_task_metrics_do_not_depend_on_rows_segments_or_batches(sentiment):
    task, model = make(48, 4)
    measure = Measure(model, (task.objective,))
    expected = measure.losses(batches(task, sentiment, 20))
    packed = batches(task, sentiment, 20).batch(0)
    assert (packed["segments"].max(1) > 1).any(), "nothing is packed"
    for length, segments, size in ((48, 1, 20), (64, 8, 7)):
        other, _ = make(length, segments)
        found = measure.losses(batches(other, sentiment, size))
        assert found == pytest.approx(expected, rel=1e-5), (length, segments, size)


@pytest.mark.parametrize(
    ("kind", "size"), [("bert", 4 * helpers.LENGTH), ("mixture", 8 * helpers.LENGTH), ("labels", 8)]
)
def test_an_evaluation_takes_micro_batches(kind, size, tmp_path):
    """A batch that fits in training because it is cut fits in evaluation, and gives the same."""
    found, rows = [], []
    for accumulation in (1, 2):
        config = helpers.run_config(
            kind, tmp_path, steps=1, batch_size=size, accumulation=accumulation, eval_batches=1
        )
        run = build(config, jax.devices()[:1])
        params = helpers.new_params(run.model, run.objectives)
        with use(run.mesh, config.mesh):
            found.append(validation.metrics(run, params))
        rows.append(run.validation.batch_rows(0))
    assert rows[1] * 2 == rows[0] or (kind == "labels" and rows[1] < rows[0])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_predictions_do_not_depend_on_the_rows_of_a_batch(sentiment, monkeypatch):
    found = []
    for length, segments, rows in ((48, 4, 3), (64, 1, 8)):
        monkeypatch.setattr(evaluator, "TOKENS", rows * length)
        task, model = make(length, segments)
        params = helpers.new_params(model, (task.objective,))
        mesh = make_mesh(ALONE, jax.devices()[:1])
        step = jax.jit(make_predict_step(model, task.objective))
        done = []
        made = evaluator.predictions(
            step,
            params,
            task,
            sentiment,
            [task.segments(e, i, False) for i, e in enumerate(sentiment)],
            helpers.word_pieces().pad,
            batch_sharding(mesh),
            progress=done.append,
        )
        assert done[-1] == len(sentiment)
        found.append(made)
    assert [p["label"] for p in found[0]] == [p["label"] for p in found[1]]
    for a, b in zip(*found, strict=True):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=2e-6)
    # In the order of the examples, though they were packed by length.
    task, _ = make(48, 4)
    order = np.argsort([len(task.segments(e, 0, False)[0]) for e in sentiment])
    assert not np.array_equal(order, np.arange(len(sentiment)))
    alone = evaluator.predictions(
        jax.jit(make_predict_step(model, task.objective)),
        params,
        task,
        sentiment[3:4],
        [task.segments(sentiment[3], 0, False)],
        helpers.word_pieces().pad,
        batch_sharding(mesh),
    )
    assert alone[0]["probabilities"] == pytest.approx(found[0][3]["probabilities"], abs=2e-6)


def test_only_the_first_batches_are_measured_where_it_is_asked(store):
    measured = dataclasses.replace(helpers.MASKED_AND_NEXT, next_sentence=None)
    data = helpers.batches(store, measured, 8, shuffle=False)
    model, objectives = helpers.pretraining_model(measured)
    counted = []

    def step(params, batch):
        counted.append(int(batch["segment_weights"].sum()))
        return {f"masked_lm/{n}": 1.0 for n in ("loss", "correct", "count")}

    place = batch_sharding(make_mesh(ALONE, jax.devices()[:1]))
    evaluator.losses(step, None, data, objectives, place, batches=2)
    assert len(counted) == 2
    counted.clear()
    evaluator.losses(step, None, data, objectives, place)
    assert len(counted) == data.epoch_batches(0)
    assert sum(counted) == sum(len(data.block_plan(0, b)) for b in range(data.store.blocks))

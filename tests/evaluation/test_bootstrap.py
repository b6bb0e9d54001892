import numpy as np
import pytest

from research.evaluation import answers, bootstrap, entities
from research.evaluation.bootstrap import paired_bootstrap
from research.evaluation.metrics import total


def scored(values):
    return [{"questions": 1.0, "exact_match": 0.0, "f1": float(value)} for value in values]


def tagged(seed, right, sentences=120):
    draw = np.random.default_rng(seed)
    golds = np.random.default_rng(99).choice(["O", "B-PER", "B-LOC"], (sentences, 6))
    noise = draw.choice(["O", "B-PER", "B-LOC"], golds.shape)
    predicted = np.where(draw.random(golds.shape) < right, golds, noise)
    return [entities.count(list(g), list(p)) for g, p in zip(golds, predicted, strict=True)]


def test_a_mean_has_the_error_that_the_formula_gives():
    draw = np.random.default_rng(0)
    theirs = draw.random(400)
    gains = draw.normal(0.1, 0.05, 400)
    gap = paired_bootstrap([scored(theirs + gains)], [scored(theirs)], answers.finish, "f1")
    error = gains.std() / np.sqrt(len(gains))
    assert gap.difference == pytest.approx(gains.mean())
    # 1,000 resamples know a standard error to about 2 %.
    assert gap.error == pytest.approx(error, rel=0.1)
    assert gap.low == pytest.approx(gains.mean() - 1.96 * error, abs=0.3 * error)
    assert gap.high == pytest.approx(gains.mean() + 1.96 * error, abs=0.3 * error)


def test_it_is_paired():
    run = scored(np.random.default_rng(1).random(50))
    gap = paired_bootstrap([run], [run], answers.finish, "f1")
    assert gap == bootstrap.Gap(0.0, 0.0, 0.0, 0.0)


def test_the_sign_is_ours_minus_theirs():
    gap = paired_bootstrap([tagged(1, 0.9)], [tagged(2, 0.5)], entities.finish, "f1")
    assert 0 < gap.low < gap.difference < gap.high


def test_a_corpus_metric_is_made_from_resampled_sums():
    ours, theirs = tagged(1, 0.8), tagged(2, 0.6)
    gap = paired_bootstrap([ours], [theirs], entities.finish, "f1", resamples=30, seed=3)
    differences = []
    for k in range(30):
        times = bootstrap._draw(3, k, len(ours)).astype(int)
        chosen = np.repeat(np.arange(len(ours)), times)
        f1 = [entities.finish(total(run[i] for i in chosen))["f1"] for run in (ours, theirs)]
        differences.append(f1[0] - f1[1])
    assert gap.error == pytest.approx(np.std(differences, ddof=1))
    assert gap.low == pytest.approx(np.percentile(differences, 2.5))
    measured = [entities.finish(total(run))["f1"] for run in (ours, theirs)]
    assert gap.difference == pytest.approx(measured[0] - measured[1])


def test_several_runs_are_averaged():
    ours, theirs = [tagged(s, 0.8) for s in (1, 2, 3)], [tagged(s, 0.6) for s in (4, 5)]
    gap = paired_bootstrap(ours, theirs, entities.finish, "recall", resamples=50)
    recalls = [[entities.finish(total(r))["recall"] for r in runs] for runs in (ours, theirs)]
    assert gap.difference == pytest.approx(np.mean(recalls[0]) - np.mean(recalls[1]))
    twice = paired_bootstrap(ours * 2, theirs * 2, entities.finish, "recall", resamples=50)
    assert twice.error == pytest.approx(gap.error)


def test_draws_depend_on_seed_and_number_alone(monkeypatch):
    ours, theirs = [tagged(1, 0.8)], [tagged(2, 0.6)]
    gap = paired_bootstrap(ours, theirs, entities.finish, "f1", resamples=100)
    monkeypatch.setattr(bootstrap, "CHUNK", 7)
    again = paired_bootstrap(ours, theirs, entities.finish, "f1", resamples=100)
    assert again.error == pytest.approx(gap.error, rel=1e-12)
    other = paired_bootstrap(ours, theirs, entities.finish, "f1", resamples=100, seed=1)
    assert other.error != pytest.approx(gap.error, rel=1e-6)
    draws = np.stack([bootstrap._draw(0, k, 40) for k in range(200)])
    assert (draws.sum(axis=1) == 40).all()
    assert len({tuple(row) for row in draws}) == 200


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([3], [4]), ([3, 3], [3, 2]), ([1], [1]), ([], [3]), ([3], [])],
)
def test_runs_over_different_examples_are_refused(ours, theirs):
    with pytest.raises(ValueError, match="same two or more examples"):
        paired_bootstrap(
            [scored(range(n)) for n in ours],
            [scored(range(n)) for n in theirs],
            answers.finish,
            "f1",
        )

import numpy as np
import pytest
from scipy import stats

from research.metrics import answers, entities, jackknife, language
from research.metrics.counts import total
from research.metrics.jackknife import Gap, paired_jackknife, spread


def scored(values):
    return [{"questions": 1.0, "exact_match": 0.0, "f1": float(value)} for value in values]


def tagged(seed, right, sentences=120):
    draw = np.random.default_rng(seed)
    golds = np.random.default_rng(99).choice(["O", "B-PER", "B-LOC"], (sentences, 6))
    noise = draw.choice(["O", "B-PER", "B-LOC"], golds.shape)
    predicted = np.where(draw.random(golds.shape) < right, golds, noise)
    return [entities.count(list(g), list(p)) for g, p in zip(golds, predicted, strict=True)]


def test_of_a_mean_it_is_the_t_test():
    draw = np.random.default_rng(0)
    theirs = draw.random(12)
    gains = draw.normal(0.1, 0.2, 12)
    gap = paired_jackknife([scored(theirs + gains)], [scored(theirs)], answers.compute, "f1")
    assert gap.difference == pytest.approx(gains.mean())
    assert gap.error == pytest.approx(stats.sem(gains)) and 1 < gap.freedom <= 11
    exact = Gap(gap.difference, gap.error, 11)
    library = stats.ttest_rel(theirs + gains, theirs)
    assert exact.p == pytest.approx(library.pvalue)
    assert exact.interval == pytest.approx(tuple(library.confidence_interval(0.95)))


def test_a_large_document_makes_it_less_sure():
    draw = np.random.default_rng(1)
    alike = draw.normal(0, 1, (400, 30))
    few = alike * np.where(np.arange(30) < 3, 10, 1)
    freedoms = [spread(values)[1] for values in (alike, few)]
    assert 26 < freedoms[0].mean() <= 29 and 1 <= freedoms[1].min() and freedoms[1].mean() < 6
    assert spread(np.eye(30)[0])[1] == 1


def test_interval_and_p_agree():
    for value in (-0.23, -0.22, 0.22, 0.23):
        gap = Gap(value, 0.1, 9)  # 2.262 is the quantile
        low, high = gap.interval
        assert (gap.p < 0.05) == (not low <= 0 <= high) == (abs(value) > 0.2262)


def test_it_is_paired_and_what_does_not_vary_has_no_interval():
    run = np.random.default_rng(1).random(50)
    assert paired_jackknife([scored(run)], [scored(run)], answers.compute, "f1") is None
    assert paired_jackknife([scored(run + 0.1)], [scored(run)], answers.compute, "f1") is None


def test_a_metric_that_rests_on_one_unit_has_no_interval():
    runs = [[entities.count(tags, tags)] for tags in (["B-PER"], ["B-LOC"], ["B-LOC", "B-LOC"])]
    ours = [counts for (counts,) in runs]
    theirs = [entities.count(["B-PER"], ["O"]), *ours[1:]]
    assert paired_jackknife([ours], [theirs], entities.compute, "f1/PER") is None
    assert paired_jackknife([ours], [theirs], entities.compute, "f1").difference > 0


def test_what_is_infinite_has_no_interval():
    def compute(counts):
        return language.of_tokens(counts["loss"], counts["tokens"])

    losses = [{"loss": loss, "tokens": 1.0} for loss in (1e9, 2e9, 1e9)]
    small = [{"loss": loss, "tokens": 1.0} for loss in (1.0, 2.0, 1.0)]
    assert paired_jackknife([losses], [small], compute, "perplexity") is None
    assert paired_jackknife([losses], [small], compute, "loss").difference > 1e9


def test_the_sign_is_ours_minus_theirs():
    gap = paired_jackknife([tagged(1, 0.9)], [tagged(2, 0.5)], entities.compute, "f1")
    low, high = gap.interval
    assert 0 < low < gap.difference < high and gap.p < 0.001


def test_a_corpus_metric_is_made_from_the_sums_of_the_others():
    ours, theirs = tagged(1, 0.8), tagged(2, 0.6)
    gap = paired_jackknife([ours], [theirs], entities.compute, "f1")
    without = []
    for left_out in range(len(ours)):
        rest = [[counts for i, counts in enumerate(r) if i != left_out] for r in (ours, theirs)]
        f1 = [entities.compute(total(run))["f1"] for run in rest]
        without.append(f1[0] - f1[1])
    assert (gap.error, gap.freedom) == pytest.approx(spread(np.array(without)))
    measured = [entities.compute(total(run))["f1"] for run in (ours, theirs)]
    assert gap.difference == pytest.approx(measured[0] - measured[1])


def test_several_runs_are_averaged():
    ours, theirs = [tagged(s, 0.8) for s in (1, 2, 3)], [tagged(s, 0.6) for s in (4, 5)]
    gap = paired_jackknife(ours, theirs, entities.compute, "recall")
    recalls = [[entities.compute(total(r))["recall"] for r in runs] for runs in (ours, theirs)]
    assert gap.difference == pytest.approx(np.mean(recalls[0]) - np.mean(recalls[1]))
    twice = paired_jackknife(ours * 2, theirs * 2, entities.compute, "recall")
    assert twice.error == pytest.approx(gap.error)


def test_many_units_are_left_out_in_groups(monkeypatch):
    draw = np.random.default_rng(0)
    sorted_gains = np.sort(draw.normal(0.1, 0.2, 1000))
    runs = scored(sorted_gains), scored(np.zeros(1000))
    monkeypatch.setattr(jackknife, "GROUPS", 1000)
    each = paired_jackknife([runs[0]], [runs[1]], answers.compute, "f1")
    assert each.error == pytest.approx(stats.sem(sorted_gains))
    monkeypatch.setattr(jackknife, "GROUPS", 150)
    groups = paired_jackknife([runs[0]], [runs[1]], answers.compute, "f1")
    # Drawn at random: neighbours, or every 150th, of what is in order would be far off.
    assert groups.error == pytest.approx(each.error, rel=0.15) and groups.freedom <= 149
    assert groups.difference == each.difference
    assert groups == paired_jackknife([runs[0]], [runs[1]], answers.compute, "f1")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([3], [4]), ([3, 3], [3, 2]), ([1], [1]), ([], [3]), ([3], [])],
)
def test_runs_over_different_examples_are_refused(ours, theirs):
    with pytest.raises(ValueError, match="same two or more examples"):
        paired_jackknife(
            [scored(range(n)) for n in ours],
            [scored(range(n)) for n in theirs],
            answers.compute,
            "f1",
        )

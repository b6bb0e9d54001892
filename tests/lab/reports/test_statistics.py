"""Intervals and significance of differences, and their readings."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from benchmarks import coverage
from research.lab.reports import statistics
from research.lab.reports.results import Cell
from research.lab.reports.statistics import Difference, corrected, reading, significant
from research.metrics.jackknife import Gap, paired_jackknife


def test_intervals_and_marks_are_those_of_the_library():
    draw = np.random.default_rng(0)
    samples = [(draw.normal(m, 0.1, 5), draw.normal(0, 0.3, 6)) for m in (0.0, 0.3, 1.0, 0.2)]
    found = [statistics.difference(ours, theirs) for ours, theirs in samples]
    ps = []
    for (ours, theirs), one in zip(samples, found, strict=True):
        other = CompareMeans(DescrStatsW(ours), DescrStatsW(theirs))
        assert one.over_seeds.interval == pytest.approx(other.tconfint_diff(usevar="unequal"))
        ps.append(other.ttest_ind(usevar="unequal")[1])
        assert one.p == pytest.approx(ps[-1]) and one.value == ours.mean() - theirs.mean()
    few = Difference(1.0, (4, 5), Gap(1.0, 0.01, 7))
    holm = corrected([*found[:2], few, *found[2:]])
    expected = multipletests(ps, method="holm")
    assert holm == [
        *map(pytest.approx, expected[1][:2]),
        None,
        *map(pytest.approx, expected[1][2:]),
    ]
    marks = [significant(p) for p in holm if p is not None]
    assert marks == expected[0].tolist() and True in marks and False in marks


@pytest.mark.parametrize("seed", range(5))
def test_correction_is_that_of_the_library(seed):
    draw = np.random.default_rng(seed)
    ps = [*draw.random(4), *draw.random(4) / 100, 0.03, 0.03]
    gaps = [Gap(1.0, -1 / float(quantile(p)), 9) for p in ps]
    holm = corrected([Difference(1.0, (5, 5), gap) for gap in gaps])
    assert holm == pytest.approx(list(multipletests(ps, method="holm")[1]))


def quantile(p):
    return stats.t.ppf(p / 2, 9)


def test_over_both_the_variances_are_added():
    seeds, examples = Gap(1.0, 0.3, 8), Gap(1.0, 0.4, 43)
    found = Difference(1.0, (5, 5), seeds, examples)
    gap = found.over_both
    assert (gap.difference, gap.error) == (1.0, pytest.approx(0.5))
    # Satterthwaite's formula, as Welch's test has it.
    assert gap.freedom == pytest.approx(0.5**4 / (0.3**4 / 8 + 0.4**4 / 43))
    assert found.p == max(seeds.p, examples.p, gap.p) > seeds.p
    assert Difference(1.0, (5, 5), seeds).p == seeds.p
    assert Difference(1.0, (5, 5), None, examples).p is None


def test_few_seeds_have_no_mark_and_one_no_interval():
    assert statistics.difference([1, 2, 3, 4], [2, 3, 4, 5, 6]).p is None
    assert statistics.difference([1.0], [2.0, 3.0]).over_seeds is None
    assert statistics.difference([1.0, 1.0], [2.0, 2.0]).over_seeds is None


def test_what_is_not_finite_has_no_interval_and_spoils_no_mark():
    broken = statistics.difference([0.1, float("nan"), 0.3, 0.2, 0.1], [0.0] * 5)
    assert broken.over_seeds is None and broken.p is None
    clear = statistics.difference([1.0, 1.1, 0.9, 1.0, 1.2], [0.0, 0.1, 0.2, 0.0, 0.1])
    assert corrected([broken, clear]) == [None, clear.p] and clear.p < 0.05
    assert reading(broken, False, None) == "not finite"
    assert math.isnan(Cell("r", {(0,): math.inf, (1,): 1.0}, []).deviation)


SURE, WIDE, OTHER = Gap(0.2, 0.02, 8), Gap(0.2, 0.2, 8), Gap(-0.2, 0.02, 8)
NEARLY = Gap(0.2, 0.08, 40)  # 0 is in no interval of one alone, but in that of both


@pytest.mark.parametrize(
    ("found", "lower", "p", "text"),
    [
        (Difference(0.2, (5, 5), SURE, SURE), False, 0.01, "better"),
        (Difference(0.2, (5, 5), SURE, SURE), True, 0.01, "worse"),
        (Difference(-0.2, (5, 5), OTHER), True, 0.01, "better"),
        (Difference(0.2, (5, 5), SURE, SURE), False, 0.06, "perhaps better"),
        (Difference(0.2, (3, 3), SURE, SURE), True, None, "perhaps worse"),
        (Difference(0.2, (5, 5), WIDE, SURE), False, 0.3, "not resolved"),
        (Difference(0.2, (3, 3), SURE, WIDE), False, None, "not resolved"),
        (Difference(0.2, (3, 3), NEARLY, NEARLY), False, None, "not resolved"),
        (Difference(0.2, (3, 3), SURE, OTHER), False, None, "not resolved"),
        (Difference(0.2, (1, 1), None, SURE), False, None, "one seed"),
        (Difference(0.2, (1, 5), None, SURE), False, None, "one seed"),
        (Difference(0.2, (1, 1), None, None), False, None, "one seed"),
        (Difference(0.2, (5, 5), None, SURE), False, None, "no variation"),
    ],
)
def test_a_difference_is_read_by_its_intervals(found, lower, p, text):
    assert reading(found, lower, p) == text


@pytest.mark.parametrize("name", coverage.METRICS)
def test_what_is_simulated_is_the_jackknife_of_the_reports(name):
    metric = coverage.METRICS[name]
    pair = coverage.systems(metric, np.random.default_rng(0), (2, 9), 0.8)
    simulated = coverage.gap(metric, *pair)
    ours, theirs = (
        [{key: float(n[1, unit]) for key, n in counts.items()} for unit in range(9)]
        for counts in pair
    )
    one = paired_jackknife([ours], [theirs], metric.compute, metric.name)
    assert one.difference == pytest.approx(simulated.difference[1])
    assert one.interval == pytest.approx([end[1] for end in simulated.interval])


def test_a_part_of_the_simulation():
    assert 0.93 <= coverage.coverage("accuracy", 21, 2000) <= 0.97
    shares = coverage.readings(coverage.VARIATIONS["both"], 20)
    assert shares.tables <= 0.05 and shares.lines + shares.perhaps <= 0.05


@pytest.mark.long
@pytest.mark.parametrize("number", coverage.DOCUMENTS)
@pytest.mark.parametrize("name", coverage.METRICS)
def test_intervals_cover_what_they_say(name, number):
    assert 0.93 <= coverage.coverage(name, number) <= 0.97


@pytest.mark.long
@pytest.mark.parametrize("variation", coverage.VARIATIONS.values(), ids=coverage.VARIATIONS)
def test_tables_without_a_difference_are_seldom_read_as_having_one(variation):
    shares = coverage.readings(variation)
    assert shares.tables <= 0.05 and shares.lines + shares.perhaps <= 0.05
    assert coverage.readings(variation, 300, seeds=3).perhaps <= 0.05

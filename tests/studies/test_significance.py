"""What replications and few seeds can say, and what they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adaqf_train.evaluation.protocol import interval
from adaqf_train.studies.statistics import Estimate, best, differ, estimate, first_reaching, paired, verdict

CURVE = [{"step": 100, "fid": 9.0}, {"step": 200, "fid": 5.0}, {"step": 300}, {"step": 400, "fid": 5.0}]


def test_estimate_gives_the_interval_of_student_s_t():
    values = [1.0, 2.0, 4.0]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = estimate(values)
    assert (found.mean, found.seeds) == (pytest.approx(7 / 3), 3)
    assert found.half == pytest.approx((high - low) / 2)


def test_estimate_of_one_seed_has_no_interval_and_no_verdict():
    found = estimate([3.0])
    assert found == Estimate(3.0, None, 1)
    assert str(found) == "3.000"
    assert verdict(found, lower=False) == "undecided"
    assert verdict(None, lower=False) == "undecided"


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_estimate_refuses_values_that_are_not_finite(values):
    with pytest.raises(ValueError, match="finite"):
        estimate(values)


def test_paired_finds_differences_that_seeds_hide():
    theirs = {0: 8.65, 1: 7.70, 2: 8.17}
    ours = {seed: value - gain for (seed, value), gain in zip(theirs.items(), (0.5, 0.45, 0.55), strict=True)}
    difference = paired(ours, theirs)
    assert difference.mean == pytest.approx(-0.5)
    assert verdict(difference, lower=True) == "reproduced"
    assert verdict(difference, lower=False) == "not reproduced"
    shuffled = {0: ours[1], 1: ours[2], 2: ours[0]}  # the same values, paired with other seeds
    assert verdict(paired(shuffled, theirs), lower=True) == "undecided"


def test_paired_uses_common_seeds_only():
    assert paired({0: 1.0, 7: 9.0}, {0: 2.0, 1: 5.0}) == Estimate(-1.0, None, 1)
    assert paired({0: 1.0}, {1: 2.0}) is None


def test_first_reaching_and_best_find_points_of_a_curve():
    assert first_reaching(CURVE, "fid", 5.0, lower=True) == 200
    assert first_reaching(CURVE, "fid", 4.9, lower=True) is None
    assert first_reaching(CURVE, "fid", 8.0, lower=False) == 100
    assert best(CURVE, "fid", lower=True) == (200, 5.0)
    assert best(CURVE, "fid", lower=False) == (100, 9.0)
    assert best(CURVE, "r_precision_3", lower=False) is None


def test_differ_agrees_with_the_test_on_the_values():
    rng = np.random.default_rng(0)
    found = []
    for gap in np.linspace(0, 0.3, 200):
        a, b = rng.normal(0, 0.1, 5), rng.normal(gap, 0.3, 5)
        expected = stats.ttest_ind(a, b, equal_var=False).pvalue < 0.05
        assert differ(interval(a), interval(b), 5) == expected
        found.append(expected)
    assert 10 < sum(found) < 190


def test_differ_rarely_separates_equal_sets():
    rng = np.random.default_rng(1)
    found = [differ(interval(rng.normal(size=5)), interval(rng.normal(size=5)), 5) for _ in range(1000)]
    assert np.mean(found) < 0.07  # intervals that do not overlap together, at 1.96, would be 0.12


def test_differ_is_false_for_void_figures():
    void, one, other = {"mean": None, "ci95": None}, {"mean": 1.0, "ci95": 0.0}, {"mean": 2.0, "ci95": 0.0}
    assert not differ(void, one, 5)
    assert not differ(one, other, 1)
    assert not differ({"mean": 1.0, "ci95": None}, other, 5)
    assert not differ(one, one, 5)
    assert differ(one, other, 5)

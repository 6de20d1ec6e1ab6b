"""Significance: against the tests on the values themselves, with what differs and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adaqf_train.evaluation.protocol import interval
from adaqf_train.experiments.significance import differ, paired


def test_summaries_say_what_the_values_say():
    rng = np.random.default_rng(0)
    found = []
    for gap in np.linspace(0, 0.3, 200):
        a, b = rng.normal(0, 0.1, 5), rng.normal(gap, 0.3, 5)
        expected = stats.ttest_ind(a, b, equal_var=False).pvalue < 0.05
        assert differ(interval(a), interval(b), 5) == expected
        found.append(expected)
    assert 10 < sum(found) < 190


def test_equal_sets_rarely_differ():
    rng = np.random.default_rng(1)
    found = [differ(interval(rng.normal(size=5)), interval(rng.normal(size=5)), 5) for _ in range(1000)]
    assert np.mean(found) < 0.07  # intervals that do not overlap together, at 1.96, would be 0.12


def test_what_cannot_be_told_is_not_told():
    void, one, other = {"mean": None, "ci95": None}, {"mean": 1.0, "ci95": 0.0}, {"mean": 2.0, "ci95": 0.0}
    assert not differ(void, one, 5)
    assert not differ(one, other, 1)
    assert not differ({"mean": 1.0, "ci95": None}, other, 5)
    assert not differ(one, one, 5)
    assert differ(one, other, 5)


def test_paired_differences_have_students_interval():
    values = [0.3, 0.5, 0.1, 0.4]
    mean, half = paired(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))

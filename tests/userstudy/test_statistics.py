"""The statistics of a user study, against known results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adaqf_train.userstudy.statistics import EXACT, estimate, holm, sign_flip


def test_estimate_is_close_to_the_normal_approximation():
    values = np.random.default_rng(0).normal(2.5, 0.4, 60)
    found = estimate(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(60)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_estimate_covers_the_truth_as_often_as_stated():
    rng = np.random.default_rng(1)
    found = [estimate(rng.normal(0, 1, 25), seed=k) for k in range(150)]
    assert 0.87 < np.mean([one.low < 0 < one.high for one in found]) < 0.99


def test_estimate_of_one_participant_has_no_interval():
    assert (estimate(np.array([2.0])).low, estimate(np.array([2.0])).high) == (None, None)


def test_estimate_is_reproducible():
    values = np.arange(9.0)
    assert estimate(values) == estimate(values)
    assert estimate(np.full(9, 1.5)) == estimate(np.full(9, 1.5))
    assert (estimate(np.full(9, 1.5)).low, estimate(np.full(9, 1.5)).high) == (1.5, 1.5)


@pytest.mark.parametrize("count", [2, 7, EXACT])
def test_sign_flip_agrees_with_scipy(count):
    differences = np.random.default_rng(count).normal(0.3, 1, count)
    expected = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(differences) == pytest.approx(expected.pvalue)


def test_sign_flip_of_equal_differences_gives_the_smallest_p():
    assert sign_flip(np.full(5, 0.1)) == 2 / 2**5
    assert sign_flip(np.full(5, -0.1)) == 2 / 2**5
    assert sign_flip(np.array([0.1, 0.2, -0.3])) == 1  # the sum is zero but for rounding
    assert sign_flip(np.zeros(30)) == 1


def test_sign_flip_samples_signs_of_many_participants():
    rng = np.random.default_rng(4)
    assert sign_flip(rng.normal(1, 0.5, 40)) < 0.001
    unmoved = [sign_flip(rng.normal(0, 1, 40)) for _ in range(40)]
    assert 0.3 < np.mean(unmoved) < 0.7  # under the null hypothesis p is uniform


def test_holm_agrees_with_its_paper():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.6, 0.5])) == pytest.approx([1, 1])
    assert holm(np.array([])).tolist() == []

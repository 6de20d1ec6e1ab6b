"""Power of the t-test: textbook values, simulation, and what it must refuse."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from adaqf_train.evaluation.power import power, runs_needed, smallest_difference


@pytest.mark.parametrize(("effect", "runs"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)])
def test_runs_needed_are_cohens(effect, runs):
    """Cohen 1988, table 2.4.1, and G*Power: two groups, two-sided 5 %, power 80 %."""
    assert runs_needed(effect, 1.0) == runs


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_runs_needed_of_pairs_are_those_of_g_power(effect, pairs):
    assert runs_needed(-effect, 1.0, paired=True) == pairs


@pytest.mark.parametrize(("paired", "n", "difference"), [(False, 3, 2.0), (False, 10, 1.2), (True, 4, 1.5)])
def test_power_agrees_with_simulated_tests(paired, n, difference):
    rng, deviation, trials = np.random.default_rng(0), 1.3, 40_000
    shifted = rng.normal(difference, deviation, (trials, n))
    if paired:
        found = stats.ttest_1samp(shifted, 0.0, axis=1).pvalue
    else:
        found = stats.ttest_ind(shifted, rng.normal(0, deviation, (trials, n)), axis=1).pvalue
    assert power(difference, deviation, n, paired=paired) == pytest.approx(np.mean(found < 0.05), abs=0.01)
    # Control: the normal approximation, which the few seeds of a study would deceive.
    normal = stats.norm.sf(1.96 - difference / deviation * np.sqrt(n if paired else n / 2))
    assert abs(normal - np.mean(found < 0.05)) > 0.01


def test_smallest_difference_has_the_power_asked_for():
    for paired in (False, True):
        for n in (2, 3, 20):
            found = smallest_difference(0.4, n, paired=paired, aim=0.9)
            assert power(found, 0.4, n, paired=paired) == pytest.approx(0.9, abs=1e-6)
    assert smallest_difference(0.0, 3) == 0
    assert power(0.0, 1.0, 5) == pytest.approx(0.05)
    assert power(1e6, 1.0, 3) == 1


def test_runs_in_the_documentation_are_those_needed():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    table = text.partition("Seeds for each of two arms")[2].partition("\n## ")[0]
    lines = re.findall(r"^\|.*\d.*", table, re.MULTILINE)
    head, *rows = ([float(number) for number in re.findall(r"\d+", line)] for line in lines)
    assert rows
    for deviation, *runs in rows:
        assert runs == [runs_needed(difference, deviation) for difference in head]


def test_power_refuses_what_has_none():
    assert runs_needed(0.0, 1.0) is None
    for arguments in ((1.0, 0.0, 3), (1.0, 1.0, 1), (float("nan"), 1.0, 3)):
        with pytest.raises(ValueError, match="at least 2 runs"):
            power(*arguments)

"""Curves over guidance: interpolation against values worked out by hand, and nothing beyond their ends."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from adaqf_train.evaluation.curves import (
    ArmCurve,
    area_between,
    at_level,
    choose,
    compare,
    shared_range,
)

# The trial of the issue that asked for curves (one seed, procedural motions, pooled text).
BASELINE = {0.75: (3.27, 0.634), 1.0: (2.70, 0.699), 1.25: (3.41, 0.739), 1.5: (4.91, 0.768), 2.5: (10.9, 0.759)}
ADAQF = {0.75: (2.70, 0.722), 1.0: (2.67, 0.798), 1.25: (4.30, 0.836), 1.5: (5.83, 0.842)}


def curve(points: dict[float, tuple[float, float]], fid: float = 0.0) -> dict[float, dict[str, float]]:
    return {g: {"fid": value + fid, "r_precision_3": precision} for g, (value, precision) in points.items()}


def test_choose_takes_the_best_on_val_and_the_smaller_of_equals():
    assert choose(curve(BASELINE), "fid") == 1.0
    assert choose(curve(BASELINE), "r_precision_3") == 1.5
    tie = curve({2.0: (3.0, 0.5), 1.0: (3.0, 0.5), 0.5: (3.1, 0.5)})
    assert (choose(tie, "fid"), choose(tie, "r_precision_3")) == (1.0, 0.5)
    assert choose(tie | {0.1: {"fid": float("nan")}, 0.2: {"r_precision_3": 1.0}}, "fid") == 1.0
    with pytest.raises(ValueError, match="No guidance"):
        choose({1.0: {"fid": float("inf")}}, "fid")
    with pytest.raises(ValueError, match="chooses nothing"):
        choose(tie, "none")


def test_at_level_interpolates_and_never_extrapolates():
    points = curve(BASELINE)
    assert at_level(points, "r_precision_3", 0.719, "fid", lowest=True) == pytest.approx((2.70 + 3.41) / 2)
    # R@3 .765 is passed on the way up and on the way down: the lower FID counts, or the higher where it is asked for.
    up = 3.41 + (0.765 - 0.739) / (0.768 - 0.739) * 1.5
    down = 4.91 + (0.768 - 0.765) / (0.768 - 0.759) * (10.9 - 4.91)
    assert at_level(points, "r_precision_3", 0.765, "fid", lowest=True) == pytest.approx(up)
    assert at_level(points, "r_precision_3", 0.765, "fid", lowest=False) == pytest.approx(down)
    assert at_level(points, "fid", 3.0, "r_precision_3", lowest=False) == pytest.approx(0.699 + 0.04 * 0.3 / 0.71)
    for level in (0.633, 0.7681):
        assert at_level(points, "r_precision_3", level, "fid", lowest=True) is None
    assert at_level(points, "r_precision_3", 0.634, "fid", lowest=True) == 3.27  # the very end belongs to it
    alone = curve({1.0: (3.0, 0.5)})
    assert at_level(alone, "r_precision_3", 0.5, "fid", lowest=True) == 3.0
    level_line = curve({1.0: (3.0, 0.5), 2.0: (4.0, 0.5)})
    assert at_level(level_line, "r_precision_3", 0.5, "fid", lowest=True) == 3.0


def test_area_between_is_that_of_trapezoids():
    theirs = curve({1.0: (2.0, 0.2), 2.0: (4.0, 0.6)})
    ours = curve({1.0: (1.0, 0.4), 3.0: (1.0, 0.8)})
    # Over R@3 .4 to .6 theirs rises from 3 to 4, and ours stays at 1.
    assert shared_range(ours, theirs) == (0.4, 0.6)
    assert area_between(ours, theirs) == pytest.approx(-0.2 * 2.5)
    assert area_between(theirs, ours) == pytest.approx(0.2 * 2.5)
    assert area_between(theirs, theirs) == 0
    assert area_between(ours, curve({1.0: (2.0, 0.1), 2.0: (2.0, 0.3)})) is None
    assert area_between(ours, curve({1.0: (2.0, 0.1), 2.0: (2.0, 0.4)})) is None  # a point in common has no width
    bent = curve({1.0: (1.0, 0.4), 2.0: (1.0, 0.5), 3.0: (3.0, 0.6)})
    assert area_between(bent, theirs) == pytest.approx(-(2.25 * 0.1 + (1.75 * 0.1)), abs=0.1)
    assert area_between(bent, theirs) == pytest.approx(np.trapezoid([-2, -2.5, -1.0], [0.4, 0.5, 0.6]))


def test_compare_finds_what_one_guidance_hides():
    at_one_guidance = curve(ADAQF)[1.5]["fid"] - curve(BASELINE)[1.5]["fid"]
    found = compare([curve(ADAQF)], [curve(BASELINE)], [1.5])
    assert at_one_guidance > 0 > found.fid.value
    assert found.fid.value == pytest.approx(2.70 + (0.768 - 0.722) / 0.076 * -0.03 - 4.91)
    assert found.precision.value > 0.05
    assert found.area.value < 0
    assert found.shared == (0.722, 0.768)
    assert found.mean == pytest.approx(found.area.value / 0.046)
    assert found.area.half is None
    assert "one measurement" in found.area.reason
    assert json.loads(json.dumps(found.as_dict()))["fid"]["value"] == found.fid.value


def test_compare_gives_the_interval_of_paired_differences():
    shifts, noise = np.array([0.1, -0.3, 0.4, 0.0]), np.array([0.5, 0.2, -0.1, 0.3])
    theirs = [curve(BASELINE, fid=float(shift)) for shift in shifts]
    ours = [curve(BASELINE, fid=float(shift + more)) for shift, more in zip(shifts, noise, strict=True)]
    found = compare(ours, theirs, [1.0] * 4)
    assert (found.units, found.fid.value) == (4, pytest.approx(noise.mean()))
    assert found.fid.half == pytest.approx(stats.t.ppf(0.975, 3) * stats.sem(noise))
    width = 0.768 - 0.634
    assert found.area.half == pytest.approx(found.fid.half * width, rel=1e-6)
    # Control: unpaired, the shifts that both sides share would widen it.
    crossed = compare(ours[1:] + ours[:1], theirs, [1.0] * 4)
    assert crossed.fid.half > 1.5 * found.fid.half


def test_compare_says_why_there_is_no_figure():
    far = curve({1.0: (2.0, 0.9), 2.0: (2.5, 0.95)})
    found = compare([far, far], [curve(BASELINE)] * 2, [1.0, 1.0])
    assert (found.fid.value, found.area.value, found.shared, found.mean) == (None, None, None, None)
    assert "R@3 0.699 lies outside its own curve, 0.900 to 0.950" in found.fid.reason
    assert "share no R@3: 0.900 to 0.950 against 0.634 to 0.768" in found.area.reason
    assert "nothing is extrapolated" in str(found.area)
    low = compare([curve(ADAQF, fid=-3.0)], [curve(BASELINE)], [2.5])
    assert "FID 10.900 lies outside its own curve" in low.precision.reason
    # One of the measurements alone carries the overlap: there is a value, but no interval.
    near = curve({1.0: (2.0, 0.1), 2.0: (2.5, 0.7)})
    partial = compare([near, curve({1.0: (2.0, 0.75), 2.0: (2.5, 0.8)})], [curve(BASELINE)] * 2, [1.0, 1.0])
    assert partial.fid.value is not None
    assert partial.fid.half is None
    assert "without one of the measurements" in partial.fid.reason
    with pytest.raises(ValueError, match="equally many"):
        compare([], [], [])


def test_arm_curve_survives_json_and_pairs_replications():
    rows = {1.0: [{"fid": 1.0}, {"fid": 3.0}, {"fid": 5.0}], 0.5: [{"fid": 4.0}]}
    made = ArmCurve(1.0, rows, {1.0: [{"fid": 2.0}]})
    assert ArmCurve.of(json.loads(json.dumps(made.as_dict()))) == made
    assert made.mean() == {0.5: {"fid": 4.0}, 1.0: {"fid": 3.0}}
    assert made.replications() == [{0.5: {"fid": 4.0}, 1.0: {"fid": 1.0}}]
    with pytest.raises(KeyError):
        ArmCurve.of({"chosen": 1.0})

"""Curves over guidance: FID against R-precision, the choice of a guidance on val, and the comparison of two curves.

Guidance trades FID for R-precision, and feedback itself acts like guidance. Figures of two arms at one guidance
therefore compare two points of two curves. This module compares the curves: FID at the same R@3, R@3 at the same FID,
and the area between them. Between measured points a curve is linear; beyond its ends it is not defined.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats

from adaqf_train.evaluation.power import LEVEL

FID, PRECISION = "fid", "r_precision_3"
Figures = Mapping[str, float]
Points = Mapping[float, Figures]  # guidance -> figures
Rule = Literal["fid", "r_precision_3", "none"]
RULES: dict[str, str] = {
    "fid": "the one with the lowest FID on val, of equal ones the smaller",
    "r_precision_3": "the one with the highest R@3 on val, of equal ones the smaller",
    "none": "that of its settings, which val does not change",
}
# Figures that the points of a curve keep.
KEPT = ("fid", "fid_infinity", "kid", "r_precision_1", "r_precision_2", "r_precision_3", "mm_dist", "diversity")
GRID = 1001  # values of R@3 at which the area is summed, beside the points themselves


@dataclass(frozen=True)
class ArmCurve:
    """The figures of an arm at several guidances, on the split that is scored and on val."""

    chosen: float  # the guidance of the main table
    test: Mapping[float, Sequence[Figures]]  # guidance -> figures of each replication, on the split that is scored
    val: Mapping[float, Sequence[Figures]] = field(default_factory=dict)  # the same on val; empty: not measured

    def as_dict(self) -> dict[str, object]:
        """The curve for JSON."""
        return {"chosen": self.chosen, "test": _listed(self.test), "val": _listed(self.val)}

    @classmethod
    def of(cls, content: Mapping) -> ArmCurve:
        """The curve that `as_dict` wrote; KeyError, TypeError or ValueError for anything else."""
        parts = {
            name: {float(point["guidance"]): list(point["replications"]) for point in content[name]}
            for name in ("test", "val")
        }
        chosen = float(content["chosen"])
        if parts["test"] and chosen not in parts["test"]:
            raise ValueError(f"The chosen guidance {chosen:g} is no point of the curve.")
        return cls(chosen, **parts)

    def replications(self) -> list[Points]:
        """The points of each replication that all guidances have."""
        count = min(map(len, self.test.values()), default=0)
        return [{g: rows[number] for g, rows in sorted(self.test.items())} for number in range(count)]

    def mean(self) -> Points:
        """The points as means over all of their replications."""
        return {g: mean_figures(rows) for g, rows in sorted(self.test.items())}


@dataclass(frozen=True)
class Gap:
    """A difference between two arms, ours minus theirs."""

    value: float | None
    half: float | None = None  # half width of the 95 % interval; None: unknown
    reason: str = ""  # why the difference or its interval is unknown

    def __str__(self) -> str:
        if self.value is None:
            return f"– ({self.reason})"
        spread = "" if self.half is None else f" ± {self.half:.3f}"
        return f"{self.value:+.3f}{spread}"


@dataclass(frozen=True)
class Comparison:
    """Two curves compared; differences are ours minus theirs."""

    fid: Gap  # at the R@3 that theirs has at its chosen guidance; negative: ours is better
    precision: Gap  # R@3 at the FID that theirs has at its chosen guidance; positive: ours is better
    area: Gap  # between the curves, over the R@3 that both reach: FID times R@3; negative: ours is better
    at_precision: float  # that R@3
    at_fid: float  # that FID
    shared: tuple[float, float] | None  # the R@3 that both curves reach; None: there is none
    units: int  # seeds or replications, over which the intervals are

    @property
    def mean(self) -> float | None:
        """The area over its width: the mean difference of FID over the R@3 that both reach."""
        return None if self.area.value is None else self.area.value / (self.shared[1] - self.shared[0])

    def as_dict(self) -> dict[str, object]:
        """The comparison for JSON."""
        gaps = {name: vars(getattr(self, name)) for name in ("fid", "precision", "area")}
        return {**gaps, "at_precision": self.at_precision, "at_fid": self.at_fid, "shared": self.shared} | {
            "mean": self.mean,
            "units": self.units,
        }


def choose(points: Points, rule: Rule) -> float:
    """Choose a guidance by the figures on val.

    Args:
        points: Figures of each guidance on val. A guidance without a finite figure is not chosen.
        rule: "fid" or "r_precision_3" (`RULES`).

    Returns:
        The guidance of the best figure; of equals, the smallest.

    Raises:
        ValueError: No guidance has a finite figure, or the rule needs no figures.
    """
    sign = {"fid": 1, "r_precision_3": -1}.get(rule)
    if sign is None:
        raise ValueError(f"The rule {rule!r} chooses nothing from figures: use fid or r_precision_3.")
    known = [(sign * figures[rule], g) for g, figures in points.items() if np.isfinite(figures.get(rule, np.nan))]
    if not known:
        raise ValueError(f"No guidance of {sorted(points)} has a finite {rule} on val.")
    return min(known)[1]


def kept(row: Figures) -> dict[str, float]:
    """The figures of a replication that a point of a curve keeps."""
    return {name: row[name] for name in KEPT if name in row}


def mean_figures(rows: Sequence[Figures]) -> dict[str, float]:
    """Average the figures that all rows have."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if all(name in row for row in rows)}


def at_level(points: Points, along: str, level: float, of: str, *, lowest: bool) -> float | None:
    """Interpolate one figure of a curve where another one has a given value.

    Args:
        points: Figures of each guidance; the curve joins them in the order of the guidance.
        along: Name of the figure whose value is given.
        level: That value.
        of: Name of the figure to interpolate.
        lowest: Where the curve has the value several times, take the lowest of the figure, and otherwise the highest.

    Returns:
        The figure, or None where the curve does not reach the value.
    """
    x, y = _line(points, along), _line(points, of)
    found = _envelope(x, y if lowest else -y, np.array([level]))[0]
    if not np.isfinite(found):
        return None
    return float(found if lowest else -found)


def shared_range(ours: Points, theirs: Points, along: str = PRECISION) -> tuple[float, float] | None:
    """The values of a figure that both curves reach, as (least, greatest); None if there are none."""
    a, b = _line(ours, along), _line(theirs, along)
    low, high = float(max(a.min(), b.min())), float(min(a.max(), b.max()))
    return (low, high) if low < high else None


def area_between(ours: Points, theirs: Points) -> float | None:
    """Integrate FID of ours minus FID of theirs over the R@3 that both reach; None if they share none.

    Where a curve has several values of FID at one R@3, the lowest counts: the guidance is free.
    """
    span = shared_range(ours, theirs)
    if span is None:
        return None
    corners = np.concatenate([_line(ours, PRECISION), _line(theirs, PRECISION)])
    inside = corners[(corners >= span[0]) & (corners <= span[1])]
    at = np.unique(np.concatenate([np.linspace(*span, GRID), inside]))
    a, b = (_envelope(_line(points, PRECISION), _line(points, FID), at) for points in (ours, theirs))
    return float(np.trapezoid(a - b, at))


def compare(ours: Sequence[Points], theirs: Sequence[Points], chosen: Sequence[float]) -> Comparison:
    """Compare two curves that were measured several times, by training seeds or by replications.

    Each curve is the mean over the measurements. The intervals are Student's t with the jackknife's standard error:
    every measurement is left out once, on both sides, and the whole comparison is repeated. For a mean that is the
    interval of the paired differences. A bootstrap of three seeds would be too narrow.

    Args:
        ours: The points of each measurement; all have the same guidances.
        theirs: The same for the other arm, in the same order: measurement i of both has the same seed, or the same
            captions, crops and noise.
        chosen: The guidance that each measurement of theirs has in the main table.

    Returns:
        The comparison. A figure is None, with a reason, where a curve would have to be extrapolated.

    Raises:
        ValueError: There is no measurement, or the numbers of measurements differ.
    """
    if not ours or not len(ours) == len(theirs) == len(chosen):
        raise ValueError(f"Expected equally many measurements, got {len(ours)}, {len(theirs)} and {len(chosen)}.")

    def pooled(rows: Sequence[int]) -> tuple[Points, Points, dict[str, float]]:
        level = mean_figures([theirs[row][chosen[row]] for row in rows])
        return pool([ours[row] for row in rows]), pool([theirs[row] for row in rows]), level

    def matched(along: str, of: str) -> Callable[[Sequence[int]], float | None]:
        def difference(rows: Sequence[int]) -> float | None:
            *curves, level = pooled(rows)
            found = [at_level(curve, along, level[along], of, lowest=of == FID) for curve in curves]
            return None if None in found else found[0] - found[1]

        return difference

    every = range(len(ours))
    mine, other, level = pooled(every)
    outside = {
        name: _outside(mine, other, name, level[name], title) for name, title in ((PRECISION, "R@3"), (FID, "FID"))
    }
    span = shared_range(mine, other)
    apart = "" if span else _apart(mine, other)
    return Comparison(
        fid=_gap(matched(PRECISION, FID), len(ours), outside[PRECISION]),
        precision=_gap(matched(FID, PRECISION), len(ours), outside[FID]),
        area=_gap(lambda rows: area_between(*pooled(rows)[:2]), len(ours), apart),
        at_precision=level[PRECISION],
        at_fid=level[FID],
        shared=span,
        units=len(ours),
    )


def pool(measurements: Sequence[Points]) -> dict[float, dict[str, float]]:
    """Average the points of several measurements, at the guidances that all of them have."""
    shared = set.intersection(*(set(points) for points in measurements))
    return {g: mean_figures([points[g] for points in measurements]) for g in sorted(shared)}


def _gap(statistic: Callable[[Sequence[int]], float | None], units: int, reason: str) -> Gap:
    """A statistic of all measurements, with its jackknife interval."""
    value = statistic(range(units))
    if value is None:
        return Gap(None, None, reason)
    if units < 2:
        return Gap(value, None, "one measurement has no interval")
    without = [statistic([row for row in range(units) if row != left]) for left in range(units)]
    if None in without:
        return Gap(value, None, "without one of the measurements the curves do not reach it")
    error = np.sqrt((units - 1) / units * np.square(np.subtract(without, np.mean(without))).sum())
    return Gap(value, float(stats.t.ppf(1 - LEVEL / 2, units - 1) * error))


def _line(points: Points, name: str) -> np.ndarray:
    return np.array([points[g][name] for g in sorted(points)], dtype=np.float64)


def _envelope(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The lowest y (M,) of the line through (x, y) at each x of `at` (M,); infinite where the line has none."""
    found = np.full(len(at), np.inf)
    for corner, value in zip(x, y, strict=True):
        found = np.where(at == corner, np.minimum(found, value), found)
    for (x0, x1), (y0, y1) in zip(itertools.pairwise(x), itertools.pairwise(y), strict=True):
        if x0 != x1:
            inside = (at >= min(x0, x1)) & (at <= max(x0, x1))
            found = np.where(inside, np.minimum(found, y0 + (at - x0) / (x1 - x0) * (y1 - y0)), found)
    return found


def _outside(ours: Points, theirs: Points, name: str, level: float, title: str) -> str:
    """Say which curve does not reach a level."""
    for whose, points in (("its own", ours), ("the other arm's", theirs)):
        line = _line(points, name)
        if not line.min() <= level <= line.max():
            return f"{title} {level:.3f} lies outside {whose} curve, {line.min():.3f} to {line.max():.3f}"
    return ""


def _apart(ours: Points, theirs: Points) -> str:
    a, b = _line(ours, PRECISION), _line(theirs, PRECISION)
    return (
        f"the curves share no R@3: {a.min():.3f} to {a.max():.3f} against {b.min():.3f} to {b.max():.3f}, and nothing "
        "is extrapolated"
    )


def _listed(points: Mapping[float, Sequence[Figures]]) -> list[dict[str, object]]:
    return [{"guidance": g, "replications": [dict(row) for row in points[g]]} for g in sorted(points)]

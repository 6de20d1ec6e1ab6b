"""What a few training runs say: means with intervals over seeds, paired differences, and verdicts on claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
Verdict = Literal["reproduced", "not reproduced", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """A mean over training seeds; half is None for one seed, which says nothing of its spread."""

    mean: float
    half: float | None  # half width of the interval
    seeds: int

    def __str__(self) -> str:
        if self.half is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {self.half:.3f}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of Student's t, over seeds. ValueError for none, or values that are not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"An estimate needs finite values, at least one; got {list(values)}.")
    if len(array) == 1:
        return Estimate(float(array[0]), None, 1)
    half = _quantile(len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return Estimate(float(array.mean()), float(half), len(array))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Ours minus theirs over the seeds that both have, {seed: value} each; None when they share none.

    Runs of one seed share data order, noise and initial weights, so their difference is far steadier than they are.
    """
    shared = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in shared]) if shared else None


def verdict(difference: Estimate | None, *, lower: bool) -> Verdict:
    """Whether "ours is better than theirs" holds: only where the whole interval lies on one side of zero.

    lower: better means smaller. One seed decides nothing.
    """
    if difference is None or difference.half is None:
        return "undecided"
    gain = -difference.mean if lower else difference.mean
    if gain - difference.half > 0:
        return "reproduced"
    return "not reproduced" if gain + difference.half < 0 else "undecided"


def first_reaching(curve: Sequence[Mapping[str, float]], metric: str, target: float, *, lower: bool) -> int | None:
    """The first step of a curve at which a metric is as good as `target`; None when it never is.

    curve: {"step", metric, …} in order of steps; points without the metric are passed over.
    """
    for point in curve:
        value = point.get(metric)
        if value is not None and (value <= target if lower else value >= target):
            return int(point["step"])
    return None


def best(curve: Sequence[Mapping[str, float]], metric: str, *, lower: bool) -> tuple[int, float] | None:
    """(step, value) of the best point of a curve, the earliest of equals; None when no point has the metric."""
    points = [(int(point["step"]), point[metric]) for point in curve if metric in point]
    if not points:
        return None
    return min(points, key=lambda point: (point[1] if lower else -point[1], point[0]))


def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))

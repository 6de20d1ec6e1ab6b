"""What replications and training seeds say: tests, means with intervals, paired differences, verdicts on claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

LEVEL = 0.05  # two-sided
Verdict = Literal["reproduced", "not reproduced", "undecided"]


def differ(a: Mapping[str, float | None], b: Mapping[str, float | None], replications: int) -> bool:
    """Welch's t-test of two figures {"mean", "ci95"} over as many replications each, at `LEVEL`.

    ci95 is 1.96 std / sqrt(n) with ddof 0. False where it cannot be told: void figures, or one replication. Figures
    without any spread differ when they are unequal.
    """
    if replications < 2 or None in (a["mean"], a["ci95"], b["mean"], b["ci95"]):
        return False
    if not a["ci95"] and not b["ci95"]:
        return a["mean"] != b["mean"]
    # What the test wants is the deviation with ddof 1.
    deviations = (figure["ci95"] / 1.96 * replications / math.sqrt(replications - 1) for figure in (a, b))
    (mean_a, std_a), (mean_b, std_b) = zip((a["mean"], b["mean"]), deviations, strict=True)
    test = stats.ttest_ind_from_stats(mean_a, std_a, replications, mean_b, std_b, replications, equal_var=False)
    return bool(test.pvalue < LEVEL)


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
    half = stats.t.ppf(1 - LEVEL / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return Estimate(float(array.mean()), float(half), len(array))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Ours minus theirs over the seeds that both have, {seed: value} each; None when they share none.

    Runs of one seed share data order, noise and initial weights, so their difference is far steadier than they are.
    """
    shared = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in shared]) if shared else None


def verdict(difference: Estimate | None, *, lower: bool, seeds: int = 2) -> Verdict:
    """Whether "ours is better than theirs" holds: only where the whole interval lies on one side of zero.

    lower: better means smaller. seeds: fewer decide nothing, and neither does one.
    """
    if difference is None or difference.half is None or difference.seeds < seeds:
        return "undecided"
    gain = -difference.mean if lower else difference.mean
    if gain - difference.half > 0:
        return "reproduced"
    return "not reproduced" if gain + difference.half < 0 else "undecided"


def verdict_on_votes(votes: Sequence[bool | None], *, seeds: int = 2) -> Verdict:
    """Whether something holds in every seed, or in none; None is a seed that cannot tell, and counts for neither.

    For shares of steps, which have no spread to speak of where some are never reached.
    """
    cast = {vote for vote in votes if vote is not None}
    if sum(vote is not None for vote in votes) < max(2, seeds) or len(cast) == 2:
        return "undecided"
    return "reproduced" if cast.pop() else "not reproduced"


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

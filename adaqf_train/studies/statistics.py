"""Statistics over replications and training seeds: tests, means with intervals, paired differences, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from adaqf_train.evaluation.power import LEVEL, deviation_of, smallest_difference

Verdict = Literal["reproduced", "not reproduced", "undecided"]


def differ(a: Mapping[str, float | None], b: Mapping[str, float | None], replications: int) -> bool:
    """Whether two figures differ by Welch's t-test at `LEVEL`; False for void figures or one replication.

    ci95 is 1.96 std / sqrt(n) with ddof 0. Figures without any spread differ if they are unequal.
    """
    if replications < 2 or None in (a["mean"], a["ci95"], b["mean"], b["ci95"]):
        return False
    if not a["ci95"] and not b["ci95"]:
        return a["mean"] != b["mean"]
    deviations = (deviation_of(figure["ci95"], replications) for figure in (a, b))
    (mean_a, std_a), (mean_b, std_b) = zip((a["mean"], b["mean"]), deviations, strict=True)
    test = stats.ttest_ind_from_stats(mean_a, std_a, replications, mean_b, std_b, replications, equal_var=False)
    return bool(test.pvalue < LEVEL)


@dataclass(frozen=True)
class Estimate:
    """A mean over training seeds."""

    mean: float
    half: float | None  # half width of the 95 % interval; None for one seed, whose spread is unknown
    seeds: int

    @property
    def sees(self) -> float | None:
        """The smallest difference that a paired test over these seeds finds with a power of 80 %; None: unknown."""
        if self.half is None:
            return None
        deviation = self.half * math.sqrt(self.seeds) / float(stats.t.ppf(1 - LEVEL / 2, self.seeds - 1))
        return smallest_difference(deviation, self.seeds, paired=True)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.half is None else f" ± {self.half:.3f}")


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of Student's t over seeds; ValueError without values, or for one that is not finite."""
    count = len(values)
    if not count or not np.isfinite(values).all():
        raise ValueError(f"An estimate needs finite values, at least one; got {list(values)}.")
    half = float(stats.t.ppf(1 - LEVEL / 2, count - 1) * stats.sem(values)) if count > 1 else None
    return Estimate(float(np.mean(values)), half, count)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Ours minus theirs, {seed: value} each, over the seeds that both have; None if they share none.

    Runs of one seed share data order, noise and initial weights, so differences vary far less than the runs do.
    """
    shared = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in shared]) if shared else None


def verdict(difference: Estimate | None, *, lower: bool, seeds: int = 2) -> Verdict:
    """Decide "ours is better than theirs": only if the whole interval lies on one side of zero.

    difference: ours minus theirs. lower: whether smaller is better. Fewer than `seeds` seeds leave it undecided; so
    does one.
    """
    if difference is None or difference.half is None or difference.seeds < seeds:
        return "undecided"
    gain = -difference.mean if lower else difference.mean
    if gain - difference.half > 0:
        return "reproduced"
    return "not reproduced" if gain + difference.half < 0 else "undecided"


def verdict_on_votes(votes: Sequence[bool | None], *, seeds: int = 2) -> Verdict:
    """Decide a claim that holds in every seed or in none. A vote of None is undecided and does not count.

    For shares of steps, which have no usable spread if some seeds never reach the target.
    """
    cast = {vote for vote in votes if vote is not None}
    if sum(vote is not None for vote in votes) < max(2, seeds) or len(cast) == 2:
        return "undecided"
    return "reproduced" if cast.pop() else "not reproduced"


def first_reaching(curve: Sequence[Mapping[str, float]], metric: str, target: float, *, lower: bool) -> int | None:
    """The first step of a curve ({"step", metric, …}, in order) at which a metric is as good as `target`, or None."""
    sign = 1 if lower else -1
    reached = (point["step"] for point in curve if metric in point and sign * point[metric] <= sign * target)
    return next(map(int, reached), None)


def best(curve: Sequence[Mapping[str, float]], metric: str, *, lower: bool) -> tuple[int, float] | None:
    """(step, value) of the best point of a curve, the earliest of equals; None if no point has the metric."""
    points = [(int(point["step"]), point[metric]) for point in curve if metric in point]
    return min(points, key=lambda point: (point[1] if lower else -point[1], point[0]), default=None)

"""Curves over guidance of a study's arms: their points, and comparisons over training seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adaqf_train.evaluation import plots
from adaqf_train.evaluation.curves import FID, PRECISION, ArmCurve, Comparison, Points, compare, pool
from adaqf_train.studies.results import Result
from adaqf_train.studies.statistics import Estimate

BySeed = Mapping[int, Result]  # {seed: result}
ALONG = ("fid", "precision", "area")  # what a claim may compare along the curves (`curves.Comparison`)


def curves_of(results: BySeed) -> dict[int, ArmCurve]:
    """The curves of the seeds that have one; those of an older version have none."""
    return {seed: ArmCurve.of(result.guidance) for seed, result in sorted(results.items()) if result.guidance}


def pooled(results: BySeed) -> Points | None:
    """The points of an arm as means over seeds; None without a curve."""
    curves = curves_of(results)
    return pool([curve.mean() for curve in curves.values()]) if curves else None


def compared(ours: BySeed, theirs: BySeed) -> Comparison | None:
    """Compare two arms over the seeds that both have, or, for one seed, over its replications; None if there are none.

    A seed's point is the mean over its replications, so intervals include the variation over training seeds.
    """
    mine, other = curves_of(ours), curves_of(theirs)
    shared = sorted(mine.keys() & other.keys())
    if not shared:
        return None
    if len(shared) > 1:
        chosen = [other[seed].chosen for seed in shared]
        return compare([mine[seed].mean() for seed in shared], [other[seed].mean() for seed in shared], chosen)
    a, b = (curves[shared[0]].replications() for curves in (mine, other))
    n = min(len(a), len(b))
    return compare(a[:n], b[:n], [other[shared[0]].chosen] * n) if n else None


def along(found: Comparison | None, what: str, seeds: int) -> Estimate | None:
    """One difference of a comparison as an estimate over seeds; None where the curves do not meet."""
    gap = None if found is None else getattr(found, what)
    if gap is None or gap.value is None:
        return None
    return Estimate(gap.value, gap.half if seeds > 1 else None, seeds)


def points_rows(title: str, results: BySeed) -> list[list[str]]:
    """A row for each guidance of an arm: figures as means over seeds, and how many seeds chose it on val."""
    points, curves, rows = pooled(results), curves_of(results), []
    for g in sorted(points or {}):
        val = [curve.val[g] for curve in curves.values() if g in curve.val]
        on_val = pool([{g: row} for rows_of in val for row in rows_of])[g] if val else {}
        cells = [
            f"{where[name]:.3f}" if name in where else "–" for where in (points[g], on_val) for name in (FID, PRECISION)
        ]
        chosen = sum(curve.chosen == g for curve in curves.values())
        rows.append([title, f"{g:g}", *cells, f"{chosen} of {len(curves)}"])
    return rows


def draw(path: Path, arms: Mapping[str, BySeed]) -> bool:
    """Draw FID against R@3 of all arms, means over seeds; False, without a file, if none has a curve."""
    points = {title: found for title, results in arms.items() if (found := pooled(results))}
    if points:
        plots.draw_guidance(path, points)
    return bool(points)

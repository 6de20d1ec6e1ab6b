"""Curves over guidance as a report shows them: tables of their points, comparisons, a figure, notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from adaqf_train.evaluation import plots
from adaqf_train.evaluation.columns import NAMES
from adaqf_train.evaluation.curves import FID, PRECISION, RULES, ArmCurve, Comparison, Figures, compare, mean_figures

FIGURE = "curve.svg"  # beside the report, and in the page
Rows = list[dict[str, str]]


def points_table(curves: Mapping[str, ArmCurve]) -> Rows:
    """Format every point: its figures on the split that is scored, and on val."""
    rows = []
    for name, curve in curves.items():
        for g in sorted(curve.test):
            mark = " (chosen)" if g == curve.chosen else ""
            row = {"model": NAMES.get(name, name), "guidance": f"{g:g}{mark}", "replications": str(len(curve.test[g]))}
            for where, points in (("", curve.test), (" on val", curve.val)):
                found = mean_figures(points[g]) if points.get(g) else {}
                row |= {f"FID ↓{where}": _cell(found, FID), f"R@3 ↑{where}": _cell(found, PRECISION)}
            rows.append(row)
    return rows


def compared(curves: Mapping[str, ArmCurve]) -> tuple[str, dict[str, Comparison]]:
    """Compare every other curve with the first one, over the replications that all points have.

    Returns the first one's name, and {name: comparison}; no comparisons if the first curve has no replication.
    """
    names = list(curves)
    if len(names) < 2:
        return (names[0] if names else ""), {}
    first = names[0]
    found = {name: against(curves[name], curves[first]) for name in names[1:]}
    return first, {name: comparison for name, comparison in found.items() if comparison is not None}


def against(ours: ArmCurve, theirs: ArmCurve) -> Comparison | None:
    """Compare two curves over the replications that both have; None if they have none."""
    rows = ours.replications(), theirs.replications()
    n = min(map(len, rows))
    return compare(rows[0][:n], rows[1][:n], [theirs.chosen] * n) if n else None


def tables(curves: Mapping[str, ArmCurve]) -> Iterator[tuple[str, Rows]]:
    """Yield (title, formatted rows) of the points and of the comparison; the rows may be empty."""
    yield "Curve over guidance", points_table(curves)
    first, found = compared(curves)
    rows = [{"model": NAMES.get(name, name)} | comparison_row(each) for name, each in found.items()]
    yield f"Along the curves, minus {NAMES.get(first, first)}", rows


def comparison_row(found: Comparison) -> dict[str, str]:
    """Format a comparison: differences at the same R@3 and at the same FID, and between the curves."""
    span = "–" if found.shared is None else f"{found.shared[0]:.3f} to {found.shared[1]:.3f}"
    return {
        "FID at the same R@3 ↓": _gap(found.fid, f"at {found.at_precision:.3f}"),
        "R@3 at the same FID ↑": _gap(found.precision, f"at {found.at_fid:.3f}"),
        "area (FID × R@3) ↓": str(found.area),
        "over R@3": span,
        "its mean, FID ↓": "–" if found.mean is None else f"{found.mean:+.3f}",
    }


def notes(curves: Mapping[str, ArmCurve], rule: str, split: str) -> Iterator[str]:
    """Yield how guidances were chosen, and what the comparison rests on. split: that is scored."""
    if not curves:
        return
    chosen = ", ".join(f"{NAMES.get(name, name)} {curve.chosen:g}" for name, curve in curves.items())
    yield f"The guidance of each model is {RULES[rule]}: {chosen}. The other tables show the models at these guidances."
    if rule != "none" and split == "val":
        yield "Val chose the guidances and is scored too, so the figures flatter every model. Use the test split."
    if len(curves) > 1:
        units = min(len(curve.replications()) for curve in curves.values())
        spread = f"intervals are Student's t with the jackknife's standard error over {units} replications"
        yield (
            "Along the curves, FID and R@3 are interpolated between the points and never beyond them; "
            f"{spread if units > 1 else 'one replication of every point gives no interval'}. Training seeds are not "
            "part of it."
        )


def draw(path: Path, curves: Mapping[str, ArmCurve]) -> None:
    """Draw FID against R@3 of all models."""
    titles = {name: NAMES.get(name, name) for name in curves}
    chosen = {titles[name]: curve.chosen for name, curve in curves.items()}
    plots.draw_guidance(path, {titles[name]: curve.mean() for name, curve in curves.items()}, chosen)


def _cell(figures: Figures, name: str) -> str:
    return f"{figures[name]:.3f}" if name in figures else "–"


def _gap(gap: object, where: str) -> str:
    return str(gap) if gap.value is None else f"{gap} ({where})"

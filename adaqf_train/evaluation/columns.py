"""What the figures of a report are called, which belong together, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LEARNED = {
    "fid": "FID ↓",
    "r_precision_1": "R@1 ↑",
    "r_precision_2": "R@2 ↑",
    "r_precision_3": "R@3 ↑",
    "mm_dist": "MM-dist ↓",
    "diversity": "Diversity →",
    "multimodality": "MModality",
    "minimal_pairs": "Minimal pairs ↑",
    "r_precision_3_extractors": "R@3 by extractors",
}
PHYSICAL = {
    "skating": "Skating ↓",
    "skating_unmasked": "Skating, unmasked",
    "acceleration": "Acceleration ↓ (m/s²)",
    "jerk": "Jerk ↓ (m/s³)",
    "penetration_mm": "Penetration → (mm)",
    "floating_mm": "Floating → (mm)",
}
COLUMNS = LEARNED | PHYSICAL
HEADLINE = LEARNED | {"skating": PHYSICAL["skating"]}  # for where there is room for one table
NAMES = {"gt": "ground truth", "baseline": "baseline", "adaqf": "AdaQF"}
VOID = "void"


def cell(figure: Mapping[str, float | None] | None, missing: str = "–") -> str:
    """A figure with its interval. missing: for one that is not there; `VOID` stands for one that says nothing."""
    if figure is None:
        return missing
    if figure["mean"] is None:
        return VOID
    spread = "" if figure["ci95"] is None else f" ± {figure['ci95']:.3f}"
    return f"{figure['mean']:.3f}{spread}"


def table(
    rows: Mapping[str, Mapping[str, Mapping[str, float | None]]], columns: Mapping[str, str], prefix: str = ""
) -> list[dict[str, str]]:
    """Rows as text: the model's name, then a cell for every column that any row has.

    prefix: of the figures' names (`scores.OFFICIAL`).
    """
    shown = {
        prefix + name: title for name, title in columns.items() if any(prefix + name in row for row in rows.values())
    }
    return [
        {"model": NAMES.get(model, model)} | {title: cell(row.get(name)) for name, title in shown.items()}
        for model, row in rows.items()
    ]


def markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Lines of a Markdown table; all rows have the first one's keys."""
    titles = list(rows[0])
    return [
        f"| {' | '.join(titles)} |",
        f"|{'---|' * len(titles)}",
        *(f"| {' | '.join(row.values())} |" for row in rows),
    ]

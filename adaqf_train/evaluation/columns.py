"""Names of the figures in a report, their grouping, and how they are formatted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

LEARNED = {
    "fid": "FID ↓",
    "fid_infinity": "FID∞ ↓",
    "fid_normalised": "FID, unit length ↓",
    "kid": "KID ↓",
    "r_precision_1": "R@1 ↑",
    "r_precision_2": "R@2 ↑",
    "r_precision_3": "R@3 ↑",
    "mm_dist": "MM-dist ↓",
    "diversity": "Diversity →",
    "multimodality": "MModality",
    "minimal_pairs": "Minimal pairs ↑",
    "r_precision_3_extractors": "R@3 by extractors",
}
PHYSICAL = {  # docs/evaluation.md has their formulas
    "skating": "Skating ↓",
    "skating_unmasked": "Skating, unmasked",
    "skating_kimodo": "Skating, Kimodo ↓",
    "toe_speed": "Toe speed ↓ (m/s)",
    "contact": "Contact →",
    "slide_mm": "Slide ↓ (mm/frame)",
    "jitter_mm": "Jitter → (mm/frame²)",
    "dynamic_mm": "Dynamic → (mm/frame)",
    "acceleration": "Acceleration ↓ (m/s²)",
    "jerk": "Jerk ↓ (m/s³)",
    "mean_acceleration": "Mean acceleration (m/s²)",
    "mean_jerk": "Mean jerk (m/s³)",
    "penetration_mm": "Penetration → (mm)",
    "deep_penetration_mm": "Penetration > 5 mm → (mm)",
    "floating_mm": "Floating → (mm)",
    "floating_share": "Floating frames →",
    "bone_change": "Bone change ↓ (%)",
}
COLUMNS = LEARNED | PHYSICAL
# For a single table.
HEADLINE = {n: t for n, t in LEARNED.items() if n not in ("fid_infinity", "fid_normalised", "kid")}
HEADLINE |= {"skating": PHYSICAL["skating"]}
FLOOR = "floor"
NAMES = {"gt": "ground truth", FLOOR: "real, disjoint half", "baseline": "baseline", "adaqf": "AdaQF"}
DENOISED = "denoised_"  # before an arm's name: its denoiser's x̂0 of the real motions
NAMES |= {DENOISED + arm: f"{NAMES[arm]}, x̂₀ of real motions" for arm in ("baseline", "adaqf")}
YARDSTICKS = ("gt", FLOOR, *(name for name in NAMES if name.startswith(DENOISED)))  # rows of no generated motions
VOID = "void"  # in place of a figure that means nothing

Figure = Mapping[str, float | None]  # {"mean", "ci95"}; a mean of None is void


def cell(figure: Figure | None) -> str:
    """Format a figure with its interval and its marks of significance, if it has any; a dash stands for no figure."""
    if figure is None:
        return "–"
    if figure["mean"] is None:
        return VOID
    spread = "" if figure["ci95"] is None else f" ± {figure['ci95']:.3f}"
    marks = f" {figure['marks']}" if figure.get("marks") else ""
    return f"{figure['mean']:.3f}{spread}{marks}"


def table(
    rows: Mapping[str, Mapping[str, Figure]], columns: Mapping[str, str], prefix: str = ""
) -> list[dict[str, str]]:
    """Format rows: the model's name, then a cell for each column that any row has. prefix: `OFFICIAL` or none."""
    shown = {prefix + n: title for n, title in columns.items() if any(prefix + n in row for row in rows.values())}
    return [
        {"model": NAMES.get(model, model)} | {title: cell(row.get(name)) for name, title in shown.items()}
        for model, row in rows.items()
    ]


def sections(tables: Iterable[tuple[str, Sequence[Mapping[str, str]]]]) -> list[str]:
    """Return the Markdown lines of titled tables, without the empty ones."""
    return [line for title, rows in tables if rows for line in (f"{title}:", "", *markdown(rows), "")]


def markdown(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the lines of a Markdown table of rows that all have the same keys."""
    titles = list(rows[0])
    body = [f"| {' | '.join(row.values())} |" for row in rows]
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *body]

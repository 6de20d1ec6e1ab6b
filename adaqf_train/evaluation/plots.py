"""Figures of evaluations and studies: panels in one style, and FID against R-precision over guidance."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adaclip.files import atomic_file
from adaqf_train.evaluation.curves import FID, PRECISION, Points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can distinguish.
COLOURS = ("#444444", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A700")


def panels(count: int, height: float, *, share: bool = False, width: float = 3.4) -> tuple[Figure, np.ndarray]:
    """Make a figure with panels side by side. share: one axis of y for all."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width * count, height), layout="constrained")
        return figure, np.atleast_1d(figure.subplots(1, count, sharey=share))


def legend(figure: Figure, axis: Axes) -> None:
    """Draw the legend of a panel below all panels, where it covers no point."""
    handles, labels = axis.get_legend_handles_labels()
    columns = 1 if figure.get_figwidth() < 6 else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix; equal figures give equal files."""
    import matplotlib as mpl

    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a date and random identifiers, equal results give equal files.
    with mpl.rc_context({"svg.hashsalt": "adaqf"}), atomic_file(path) as staging:
        metadata = {"Software": None} if path.suffix == ".png" else {"Date": None}
        figure.savefig(staging, format=path.suffix[1:], dpi=110, metadata=metadata)


def draw_guidance(path: Path, arms: Mapping[str, Points], chosen: Mapping[str, float] | None = None) -> None:
    """Draw FID against R@3: a line through the points of each arm, labelled with their guidances.

    arms: {title: points}. chosen: the guidance of each arm's main table, drawn as a larger dot.
    """
    figure, (axis,) = panels(1, 3.4 + 0.17 * len(arms), width=5.2)
    rounds = itertools.product(("o-", "s--", "^:"), COLOURS)  # when the colours are used up, lines differ
    for (line, colour), (title, points) in zip(itertools.cycle(rounds), arms.items(), strict=False):
        guidances = sorted(points)
        x, y = ([points[g][name] for g in guidances] for name in (PRECISION, FID))
        axis.plot(x, y, line, color=colour, label=title, linewidth=1.6, markersize=4)
        for g, *at in zip(guidances, x, y, strict=True):
            axis.annotate(f"{g:g}", at, textcoords="offset points", xytext=(4, 4), fontsize=7, color=colour)
        if chosen and title in chosen:
            best = points[chosen[title]]
            axis.plot(best[PRECISION], best[FID], "o", color=colour, markersize=9, fillstyle="none")
    axis.set(xlabel="R@3 (higher is better)", ylabel="FID (lower is better)")
    axis.grid(color="#dddddd", linewidth=0.6)
    legend(figure, axis)
    save(figure, path)

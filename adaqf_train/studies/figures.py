"""Draws the figures of a study from its results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adaqf_train.evaluation.plots import COLOURS, legend, panels, save
from adaqf_train.studies.results import Result, mean_curve
from adaqf_train.studies.statistics import estimate


def draw_curves(path: Path, arms: Mapping[str, Sequence[Result]], metrics: Mapping[str, str]) -> bool:
    """Draw metrics on val over training steps: for each arm the mean over seeds, shaded from the worst to the best.

    Returns False, without writing a file, if no result has a curve. metrics: {name: title}, a panel each.
    """
    curves = {
        (arm, metric): found
        for arm, results in arms.items()
        for metric in metrics
        if (found := mean_curve(results, metric))[0]
    }
    if not curves:
        return False
    figure, axes = panels(len(metrics), 3.2)
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        for colour, arm in zip(itertools.cycle(COLOURS), arms, strict=False):
            if (arm, metric) in curves:
                steps, values = curves[arm, metric]
                values = np.asarray(values)
                dashed = "--" if list(arms).index(arm) >= len(COLOURS) else "-"
                axis.plot(steps, values.mean(axis=0), dashed, color=colour, label=arm, linewidth=1.6)
                axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axis.set(title=title, xlabel="training steps")
    legend(figure, axes[0])
    save(figure, path)
    return True


def draw_estimates(path: Path, arms: Mapping[str, Mapping[str, Sequence[float]]], metrics: Mapping[str, str]) -> bool:
    """Draw test figures, a row for each arm: mean and interval over seeds, and every seed as a small dot.

    Returns False, without writing a file, if there are none. arms: {title: {metric: a value for each seed}}.
    """
    arms = {title: found for title, found in arms.items() if found}
    if not arms:
        return False
    figure, axes = panels(len(metrics), 0.9 + 0.34 * len(arms), share=True)
    places = range(len(arms))[::-1]
    for axis, (metric, title) in zip(axes, metrics.items(), strict=True):
        for place, colour, found in zip(places, itertools.cycle(COLOURS), arms.values(), strict=False):
            if metric in found:
                mean = estimate(found[metric])
                axis.errorbar(mean.mean, place, xerr=mean.half or 0.0, fmt="o", color=colour, capsize=3, markersize=5)
                seeds = found[metric] if mean.seeds > 1 else ()
                axis.plot(seeds, [place - 0.22] * len(seeds), ".", color=colour, markersize=4, alpha=0.6)
        axis.set(title=title, ylim=(-0.6, len(arms) - 0.4))
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes[0].set_yticks(list(places), list(arms))
    save(figure, path)
    return True

"""Whether figures differ by more than chance: Welch's test on summaries, Student's interval of paired ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

LEVEL = 0.05  # two-sided


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


def paired(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and half width of its 95 % interval by Student's t. At least two."""
    count = len(differences)
    error = np.std(differences, ddof=1) / math.sqrt(count)
    return float(np.mean(differences)), float(stats.t.ppf(1 - LEVEL / 2, count - 1) * error)

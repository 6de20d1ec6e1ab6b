"""How large a difference an evaluation can see: the power of Student's t-test, from the noncentral t distribution.

For two groups of n runs each and the standard deviation s of both, the statistic of a true difference d has 2n - 2
degrees of freedom and the noncentrality d / (s sqrt(2 / n)). For n pairs, s is the deviation of the differences, the
degrees of freedom are n - 1, and the noncentrality is d sqrt(n) / s. The power is the probability that the statistic
lies beyond the two-sided critical value (Cohen 1988, chapter 2).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

LEVEL = 0.05  # of the two-sided test
POWER = 0.8  # probability of seeing a difference of the stated size
MOST = 10_000_000  # runs; a search for more ends


def power(difference: float, deviation: float, n: int, *, paired: bool = False, level: float = LEVEL) -> float:
    """Compute the probability that the t-test finds a true difference.

    Args:
        difference: The true difference of the two means, of either sign.
        deviation: Standard deviation (ddof 1) of the runs of a group; with `paired`, of the differences of the pairs.
        n: Runs in each group, or pairs; at least 2.
        paired: Whether the runs are compared in pairs.
        level: Probability of finding a difference where there is none.

    Returns:
        The power, between `level` and 1.

    Raises:
        ValueError: A number is not finite, the deviation is not positive, or there are fewer than two runs.
    """
    _check(difference, deviation, n)
    freedom = n - 1 if paired else 2 * n - 2
    noncentral = abs(difference) / deviation * math.sqrt(n if paired else n / 2)
    critical = stats.t.ppf(1 - level / 2, freedom)
    upper, lower = stats.nct.sf(critical, freedom, noncentral), stats.nct.cdf(-critical, freedom, noncentral)
    # scipy gives NaN in tails that are 1 or 0 to all digits.
    return min(float(np.nan_to_num(upper, nan=1.0) + np.nan_to_num(lower, nan=0.0)), 1.0)


def smallest_difference(
    deviation: float, n: int, *, paired: bool = False, level: float = LEVEL, aim: float = POWER
) -> float:
    """Compute the smallest true difference that the t-test finds with the probability `aim`.

    Args:
        deviation: As in `power`; 0 gives 0.
        n: Runs in each group, or pairs; at least 2.
        paired: Whether the runs are compared in pairs.
        level: Probability of finding a difference where there is none.
        aim: The power that is asked for.

    Returns:
        The difference, in the unit of the deviation.

    Raises:
        ValueError: As in `power`.
    """
    if deviation == 0:
        return 0.0
    _check(0.0, deviation, n)
    most = 1.0
    while power(most, 1.0, n, paired=paired, level=level) < aim:
        most *= 2
    return deviation * float(
        optimize.brentq(lambda d: power(d, 1.0, n, paired=paired, level=level) - aim, 0, most, xtol=1e-9)
    )


def runs_needed(
    difference: float, deviation: float, *, paired: bool = False, level: float = LEVEL, aim: float = POWER
) -> int | None:
    """Compute how many runs in each group, or pairs, the t-test needs to find a true difference.

    Args:
        difference: The true difference.
        deviation: As in `power`.
        paired: Whether the runs are compared in pairs.
        level: Probability of finding a difference where there is none.
        aim: The power that is asked for.

    Returns:
        The number, at least 2; None for a difference of 0, or one that more than `MOST` runs would not show.

    Raises:
        ValueError: As in `power`.
    """
    _check(difference, deviation, 2)
    few, many = 1, 2
    while power(difference, deviation, many, paired=paired, level=level) < aim:
        few, many = many, 2 * many
        if difference == 0 or many > MOST:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        enough = power(difference, deviation, middle, paired=paired, level=level) >= aim
        few, many = (few, middle) if enough else (middle, many)
    return many


def deviation_of(ci95: float, n: int) -> float:
    """The standard deviation (ddof 1) of n replications from their interval, 1.96 std / sqrt(n) with ddof 0."""
    return ci95 / 1.96 * n / math.sqrt(n - 1)


def _check(difference: float, deviation: float, n: int) -> None:
    if not (math.isfinite(difference) and math.isfinite(deviation) and deviation > 0 and n >= 2):
        raise ValueError(
            f"Power needs a finite difference, a positive deviation and at least 2 runs, got {difference}, {deviation} "
            f"and {n}."
        )

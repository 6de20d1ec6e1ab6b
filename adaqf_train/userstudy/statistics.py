"""Statistics of rankings: means with intervals over participants, and tests of pairs of models."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
EXACT = 14  # up to this number of participants all 2^n signs are tried; for more, RESAMPLES random ones


@dataclass(frozen=True)
class Estimate:
    """A mean over participants and its 95 % interval; None for a single participant."""

    mean: float
    low: float | None = None
    high: float | None = None

    def __format__(self, form: str) -> str:
        return f"{self.mean:{form}}" + ("" if self.low is None else f" [{self.low:{form}}, {self.high:{form}}]")


def estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Estimate a mean over participants (P,) and its 95 % percentile bootstrap interval.

    Participants are resampled, not answers, because the answers of one participant are not independent.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean)
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Estimate(mean, float(low), float(high))


def sign_flip(differences: np.ndarray, seed: int = 0) -> float:
    """Return the two-sided p of Fisher's randomisation test that differences (P,) are symmetric about zero.

    Up to `EXACT` participants, the test is exact and its smallest p is 2 / 2^P. For more, the seed draws the signs; the
    observed signs are among them.
    """
    differences = np.asarray(differences, dtype=np.float64)
    count = len(differences)
    if count <= EXACT:
        signs = np.array(list(itertools.product((-1, 1), repeat=count)))
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), size=(RESAMPLES, count))
        signs[0] = 1
    # Sums that are equal but for rounding must count as equal.
    return float((np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean())


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values (N,) for their number (Holm 1979), in the same order."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return adjusted

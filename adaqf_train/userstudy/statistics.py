"""What rankings say: means with intervals that treat participants as the sample, and tests of pairs of models."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
EXACT = 14  # participants up to which all 2^n signs are tried; beyond it, RESAMPLES random ones


@dataclass(frozen=True)
class Estimate:
    """A mean over participants and its 95 % interval; without one (None) for a single participant."""

    mean: float
    low: float | None = None
    high: float | None = None


def estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of one value per participant, (P,), and its 95 % percentile bootstrap interval over participants.

    A participant's answers are not independent of each other, so participants are drawn again, never single answers.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean)
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Estimate(mean, float(low), float(high))


def sign_flip(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of participants' differences (P,) being symmetric about zero: Fisher's randomisation test.

    Exact up to EXACT participants, where the smallest p is 2 / 2^P; for more, over random signs and the observed ones.
    """
    differences = np.asarray(differences, dtype=np.float64)
    count = len(differences)
    if count <= EXACT:
        signs = np.array(list(itertools.product((-1, 1), repeat=count)))
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), size=(RESAMPLES, count))
        signs[0] = 1
    # Sums that are equal but for rounding must count as equal: every sum has its own order of roundings.
    return float((np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean())


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values (N,) adjusted for their number, in the same order (Holm 1979)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    result = np.empty_like(adjusted)
    result[order] = np.minimum(adjusted, 1)
    return result

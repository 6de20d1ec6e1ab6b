"""Whether motions obey a body and a floor: figures without a learned network, to read beside the real motions' own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adaqf_train.motion.skeleton import Skeleton

FLOATING_HEIGHT = 0.05  # metres; the lowest joint of a standing body is below this


def acceleration_distance(
    real: Sequence[np.ndarray], generated: Sequence[np.ndarray], skeleton: Skeleton
) -> dict[str, float]:
    """How far the distributions of joint accelerations and of jerks lie apart: {"acceleration": m/s², "jerk": m/s³}.

    real, generated: joints (T_i, J, 3) of clips cut to their length. The Wasserstein-1 distance between all joints'
    magnitudes over all frames: trembling, frozen and over-smoothed motions all move away from 0.
    ValueError when no clip has the four frames that a jerk needs.
    """
    distances = {}
    for name, order in (("acceleration", 2), ("jerk", 3)):
        unit = skeleton.fps**order / skeleton.units_per_metre

        def sizes(clips: Sequence[np.ndarray], order: int = order, unit: float = unit) -> np.ndarray:
            values = [np.linalg.norm(np.diff(clip, order, axis=0), axis=-1).ravel() for clip in clips if len(clip) > 3]
            if not values:
                raise ValueError("Accelerations need clips of at least 4 frames.")
            return np.concatenate(values) * unit

        distances[name] = wasserstein(sizes(real), sizes(generated))
    return distances


def penetration(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Mean depth of the lowest joint below the floor, metres, over all frames. joints: (T, J, 3), one clip."""
    return _mean_of_lowest(joints, skeleton, lambda height: np.maximum(-height, 0))


def floating(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Mean height of the lowest joint over 5 cm above the floor, metres, over all frames. joints: (T, J, 3), one clip.

    Jumps float too: compare with the real motions' figure.
    """
    return _mean_of_lowest(joints, skeleton, lambda height: np.maximum(height - FLOATING_HEIGHT, 0))


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Wasserstein-1 distance of two samples of numbers, of any sizes: the area between their quantile functions."""
    a, b = np.sort(a), np.sort(b)
    both = np.sort(np.concatenate([a, b]))
    below = (np.searchsorted(sample, both[:-1], side="right") / len(sample) for sample in (a, b))
    share_a, share_b = below
    return float(np.sum(np.abs(share_a - share_b) * np.diff(both)))


def _mean_of_lowest(joints: np.ndarray, skeleton: Skeleton, part: Callable[[np.ndarray], np.ndarray]) -> float:
    return float(part(joints[..., 1].min(axis=-1) / skeleton.units_per_metre).mean())

"""What bodies do on the ground, without a learned network: sliding, trembling, sinking in, how long legs are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adaqf_train.motion.skeleton import Skeleton

SKATING_SPEED = 0.5  # metres a second, along the floor
SKATING_HEIGHT = 0.05  # metres
SKATING_WINDOW = 5  # frames of the speed's moving mean
FLOATING_HEIGHT = 0.05  # metres; the lowest joint of a standing body is below this


def skating(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Share of frame pairs in which a foot slides on the floor (Karunratanakul et al. 2023, `metrics.py` of GMD).

    joints: (T, J, 3) of one clip, cut to its length. A toe slides where it is below 5 cm in both frames and its
    horizontal speed and that speed's 5-frame mean exceed 0.5 m/s.
    """
    toes = joints[:, [skeleton.left_foot[1], skeleton.right_foot[1]]] / skeleton.units_per_metre
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * skeleton.fps
    low = toes[..., 1] < SKATING_HEIGHT
    padded = np.pad(speed, ((SKATING_WINDOW // 2, SKATING_WINDOW // 2), (0, 0)))  # zeros beyond the ends, as upstream
    mean = np.lib.stride_tricks.sliding_window_view(padded, SKATING_WINDOW, axis=0).mean(axis=-1)
    sliding = (speed > SKATING_SPEED) & (mean > SKATING_SPEED) & low[1:] & low[:-1]
    return float(sliding.any(axis=1).mean())


def bone_lengths(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Median length of each bone over a clip: (T, J, 3) -> (J-1,), in the joints' own units."""
    return np.median(np.linalg.norm(joints[:, 1:] - joints[:, list(skeleton.parents[1:])], axis=-1), axis=0)


def travelling_speed(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Metres the root travels a second, along the floor and over its whole path. joints: (T, J, 3), T >= 2."""
    steps = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1)
    return float(steps.mean()) / skeleton.units_per_metre * skeleton.fps


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

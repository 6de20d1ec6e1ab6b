"""What bodies do on the ground: sliding feet, and how long legs and how fast walks are."""

from __future__ import annotations

import numpy as np

from adaqf_train.motion.skeleton import Skeleton

SKATING_SPEED = 0.5  # metres a second, along the floor
SKATING_HEIGHT = 0.05  # metres
SKATING_WINDOW = 5  # frames of the speed's moving mean


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

"""Physical measures of motion that need no network: sliding, trembling, floor penetration, bone lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaqf_train.motion.skeleton import Skeleton

SKATING_SPEED = 0.5  # metres per second, along the floor
SKATING_HEIGHT = 0.05  # metres
SKATING_WINDOW = 5  # frames of the speed's moving mean
FLOATING_HEIGHT = 0.05  # metres; the lowest joint of a standing body is below this


def skating(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Share of frame pairs in which a foot slides on the floor (Karunratanakul et al. 2023, `metrics.py` of GMD).

    A toe slides where it is below 5 cm in both frames, and its horizontal speed and the 5-frame mean of that speed
    exceed 0.5 m/s. joints: (T, J, 3) of one clip, cut to its length, in the skeleton's units.
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
    """Mean speed of the root along the floor, in metres per second. joints: (T, J, 3), T >= 2."""
    steps = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1)
    return float(steps.mean()) / skeleton.units_per_metre * skeleton.fps


def acceleration_distance(
    real: Sequence[np.ndarray], generated: Sequence[np.ndarray], skeleton: Skeleton
) -> dict[str, float]:
    """Wasserstein-1 distances of the magnitudes of joint accelerations (m/s²) and jerks (m/s³) of two sets of clips.

    Trembling, frozen and over-smoothed motions all increase the distance. Clips are joints (T_i, J, 3), cut to their
    length, in the skeleton's units; ValueError if none has the four frames that a jerk needs.
    """
    from scipy.stats import wasserstein_distance  # takes half a second to import

    def sizes(clips: Sequence[np.ndarray], order: int) -> np.ndarray:
        values = [np.linalg.norm(np.diff(clip, order, axis=0), axis=-1).ravel() for clip in clips if len(clip) > 3]
        if not values:
            raise ValueError("Accelerations need clips of at least 4 frames.")
        return np.concatenate(values) * (skeleton.fps**order / skeleton.units_per_metre)

    orders = {"acceleration": 2, "jerk": 3}
    return {name: float(wasserstein_distance(sizes(real, n), sizes(generated, n))) for name, n in orders.items()}


def penetration(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Mean depth of the lowest joint below the floor, metres, over all frames. joints: (T, J, 3), one clip."""
    return float(np.maximum(-_lowest(joints, skeleton), 0).mean())


def floating(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Mean height of the lowest joint over 5 cm above the floor, metres, over all frames. joints: (T, J, 3), one clip.

    Jumps float too: compare with the figure of the real motions.
    """
    return float(np.maximum(_lowest(joints, skeleton) - FLOATING_HEIGHT, 0).mean())


def _lowest(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Height (T,) of the lowest joint, metres."""
    return joints[..., 1].min(axis=-1) / skeleton.units_per_metre

"""Curves read from the joints, one number a frame, and what counts as a rise, a swing or a pulse of a curve.

Joints are (T, 22, 3): metres, Y up, 20 frames a second, as `features.decode` gives them. Left and right are the
person's own.
"""

from __future__ import annotations

import numpy as np

from adaqf_train.motion.skeleton import HUMANML3D

FPS = HUMANML3D.fps
J = {name: index for index, name in enumerate(HUMANML3D.joints)}
SIDES = ("left", "right")
SMOOTHING = 5  # frames of the moving average over paths and headings: a quarter of a second
Pulse = tuple[int, int]  # first and last frame, inclusive


def smooth(signal: np.ndarray, frames: int = SMOOTHING) -> np.ndarray:
    """Centred moving average along the first axis; the ends average over what there is of them. Same shape."""
    half = min(frames // 2, len(signal) - 1)
    padded = np.concatenate((np.zeros_like(signal[:1]), np.cumsum(signal, axis=0)))
    at = np.arange(len(signal))
    reach = np.minimum(half, np.minimum(at, len(signal) - 1 - at))  # symmetric, so that a ramp stays a ramp
    total = padded[at + reach + 1] - padded[at - reach]
    return total / (2 * reach + 1).reshape(-1, *[1] * (signal.ndim - 1))


def heading(joints: np.ndarray) -> np.ndarray:
    """Facing in degrees (T,): of hips and shoulders together, unwrapped, smooth, 0 towards +Z, positive to the left."""
    across = sum(joints[:, J[f"left_{part}"]] - joints[:, J[f"right_{part}"]] for part in ("hip", "shoulder"))
    return smooth(np.degrees(np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))))


def axes(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal unit vectors forward and to the left, (T, 3) each."""
    angle = np.radians(heading(joints))
    zero = np.zeros_like(angle)
    return np.stack((np.sin(angle), zero, np.cos(angle)), -1), np.stack((np.cos(angle), zero, -np.sin(angle)), -1)


def velocity(joints: np.ndarray) -> np.ndarray:
    """The pelvis's velocity forward and to the left, (T, 2), metres per second, smooth."""
    path = smooth(joints[:, J["pelvis"]], 9)  # longer than a step of a run, which sways
    moved = np.gradient(path, axis=0) * FPS
    return np.stack([(moved * axis).sum(-1) for axis in axes(joints)], -1)


def elevation(joints: np.ndarray, side: str) -> np.ndarray:
    """How far the wrist is lifted about the shoulder, (T,): 0 degrees hanging, 90 level, 180 straight up."""
    return _angle_from_down(joints[:, J[f"{side}_wrist"]] - joints[:, J[f"{side}_shoulder"]])


def flexion(joints: np.ndarray, side: str) -> np.ndarray:
    """Bend of the elbow in degrees, (T,): 0 for a straight arm."""
    upper = joints[:, J[f"{side}_elbow"]] - joints[:, J[f"{side}_shoulder"]]
    lower = joints[:, J[f"{side}_wrist"]] - joints[:, J[f"{side}_elbow"]]
    cosine = (upper * lower).sum(-1) / np.maximum(_norm(upper) * _norm(lower), 1e-9)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def outward(joints: np.ndarray, side: str) -> np.ndarray:
    """Where the forearm points in the frontal plane, (T,): 0 degrees up, positive away from the body."""
    _, left = axes(joints)
    forearm = joints[:, J[f"{side}_wrist"]] - joints[:, J[f"{side}_elbow"]]
    sign = 1 if side == "left" else -1
    return np.degrees(np.arctan2(sign * (forearm * left).sum(-1), forearm[:, 1]))


def ahead(joints: np.ndarray, joint: str, of: str) -> np.ndarray:
    """How far forward a joint is of another, (T,), metres."""
    forward, _ = axes(joints)
    return ((joints[:, J[joint]] - joints[:, J[of]]) * forward).sum(-1)


def aside(joints: np.ndarray, joint: str, of: str, side: str) -> np.ndarray:
    """How far out to a side a joint is of another, (T,), metres."""
    _, left = axes(joints)
    return (1 if side == "left" else -1) * ((joints[:, J[joint]] - joints[:, J[of]]) * left).sum(-1)


def lean(joints: np.ndarray) -> np.ndarray:
    """Forward lean of the trunk, (T,), degrees from upright."""
    trunk = joints[:, J["neck"]] - joints[:, J["pelvis"]]
    return np.degrees(np.arctan2(ahead(joints, "neck", "pelvis"), np.maximum(trunk[:, 1], 1e-6)))


def sunk(joints: np.ndarray) -> np.ndarray:
    """How far the pelvis is below its highest point while a foot is on the floor, (T,), metres."""
    height = joints[:, J["pelvis"], 1]
    standing = height[airborne(joints) < 0.05]
    return (standing.max() if len(standing) else height.max()) - height


def airborne(joints: np.ndarray) -> np.ndarray:
    """Height of the lower toe above where it rests, (T,), metres: positive in flight."""
    toes = joints[:, [J["left_foot"], J["right_foot"]], 1]
    return toes.min(-1) - np.percentile(toes, 10)


def pulses(signal: np.ndarray, low: float, high: float) -> list[Pulse]:
    """The stretches in which a signal goes above `high`, from where it left `low` to where it is back there.

    A stretch may begin with the clip or end with it.
    """
    found: list[Pulse] = []
    at = 0
    for start, stop in runs(signal > low):
        at = start
        if signal[at:stop].max() > high:
            found.append((start, stop - 1))
    return found


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of each stretch of true values of (T,) flags."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def turning_points(signal: np.ndarray, least: float) -> list[int]:
    """Frames at which a signal turns, first and last frame included, swings smaller than `least` ignored."""
    points, low, high, rising = [0], 0, 0, None
    for at in range(len(signal)):
        low, high = (at if signal[at] < signal[low] else low), (at if signal[at] > signal[high] else high)
        if rising is not True and signal[at] - signal[low] >= least:
            if rising is False or low > 0:
                points.append(low)
            rising, high = True, at
        elif rising is not False and signal[high] - signal[at] >= least:
            if rising is True or high > 0:
                points.append(high)
            rising, low = False, at
        if rising is True:
            low = high if signal[high] >= signal[at] else at
        elif rising is False:
            high = low if signal[low] <= signal[at] else at
    return [*dict.fromkeys(points), len(signal) - 1]


def crossing_time(signal: np.ndarray, start: int, stop: int, shares: tuple[float, float] = (0.2, 0.8)) -> float:
    """Seconds a signal takes through the middle of its way from frame `start` to frame `stop` (inclusive)."""
    part = signal[start : stop + 1]
    way = part[-1] - part[0]
    if len(part) < 2 or way == 0:
        return 0.0
    share = (part - part[0]) / way
    last = np.flatnonzero(share <= shares[0])[-1]  # the last time it leaves the lower level behind
    times = []
    for level in shares:
        above = last + np.flatnonzero(share[last:] >= level)[0]
        below = max(above - 1, 0)
        gap = share[above] - share[below]
        times.append(below + (level - share[below]) / gap if gap > 0 else above)
    return float(times[1] - times[0]) / FPS


def _angle_from_down(vector: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(-vector[:, 1] / np.maximum(_norm(vector), 1e-9), -1, 1)))


def _norm(vector: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vector, axis=-1)

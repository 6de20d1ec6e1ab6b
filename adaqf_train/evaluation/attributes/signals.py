"""Curves of one number per frame, computed from joints, their rises, swings and pulses, and the events they show.

Joints are (T, 22, 3): metres, Y up, 20 frames per second, as `features.decode` returns them. Left and right are the
person's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaqf_train.motion.skeleton import HUMANML3D

FPS = HUMANML3D.fps
J = {name: index for index, name in enumerate(HUMANML3D.joints)}
SIDES = ("left", "right")
SMOOTHING = 5  # frames of the moving average of paths and headings: a quarter of a second
Pulse = tuple[int, int]  # first and last frame, inclusive
FLIGHT = (0.03, 0.06)  # metres both toes are off the floor: landed, in flight
LANDING = 0.4  # seconds around a flight in which knees and arms belong to the jump


@dataclass(frozen=True)
class Event:
    """A stretch that shows one action; attributes that do not apply are None."""

    kind: str  # of `detection.DETECTORS`
    start: int  # frames
    end: int
    side: str | None = None  # "left", "right" or "both": the limb, or the direction of sideways travel
    direction: str | None = None  # of travel relative to the heading: "forward", "backward" or "sideways"
    count: int | None = None  # repetitions, or steps of travel
    seconds: float | None = None  # of the middle of a repetition's movement (`crossing_time`)
    turn: float | None = None  # degrees, positive to the left
    distance: float | None = None  # metres between both ends
    speed: float | None = None  # metres per second, the median of the middle half


def smooth(signal: np.ndarray, frames: int = SMOOTHING) -> np.ndarray:
    """Average a signal (T,) or (T, D) over a centred window, which shrinks symmetrically towards both ends."""
    at = np.arange(len(signal))
    reach = np.minimum(min(frames // 2, len(signal) - 1), np.minimum(at, at[::-1]))  # symmetric: a ramp stays a ramp
    sums = np.concatenate((np.zeros_like(signal[:1]), np.cumsum(signal, axis=0)))
    return ((sums[at + reach + 1] - sums[at - reach]).T / (2 * reach + 1)).T


def heading(joints: np.ndarray) -> np.ndarray:
    """Facing of hips and shoulders in degrees (T,), smooth and unwrapped: 0 towards +Z, positive to the left."""
    across = sum(joints[:, J[f"left_{part}"]] - joints[:, J[f"right_{part}"]] for part in ("hip", "shoulder"))
    return smooth(np.degrees(np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))))


def axes(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal unit vectors forward and to the left, (T, 3) each."""
    angle = np.radians(heading(joints))
    zero = np.zeros_like(angle)
    return np.stack((np.sin(angle), zero, np.cos(angle)), -1), np.stack((np.cos(angle), zero, -np.sin(angle)), -1)


def velocity(joints: np.ndarray) -> np.ndarray:
    """Velocity of the pelvis forward and to the left, (T, 2), metres per second, smooth."""
    path = smooth(joints[:, J["pelvis"]], 9)  # longer than a step of a run, in which the pelvis sways
    moved = np.gradient(path, axis=0) * FPS
    return np.stack([(moved * axis).sum(-1) for axis in axes(joints)], -1)


def elevation(joints: np.ndarray, side: str) -> np.ndarray:
    """Angle of the arm, shoulder to wrist, (T,): 0 degrees hanging, 90 level, 180 straight up."""
    return _angle(joints[:, J[f"{side}_wrist"]] - joints[:, J[f"{side}_shoulder"]], np.array([0.0, -1.0, 0.0]))


def flexion(joints: np.ndarray, side: str) -> np.ndarray:
    """Bend of the elbow in degrees, (T,): 0 for a straight arm."""
    shoulder, elbow, wrist = (joints[:, J[f"{side}_{part}"]] for part in ("shoulder", "elbow", "wrist"))
    return _angle(elbow - shoulder, wrist - elbow)


def outward(joints: np.ndarray, side: str) -> np.ndarray:
    """Direction of the forearm in the frontal plane, (T,): 0 degrees up, positive away from the body."""
    forearm = joints[:, J[f"{side}_wrist"]] - joints[:, J[f"{side}_elbow"]]
    return np.degrees(np.arctan2(aside(joints, f"{side}_wrist", f"{side}_elbow", side), forearm[:, 1]))


def ahead(joints: np.ndarray, joint: str, of: str) -> np.ndarray:
    """Distance of a joint in front of another, (T,), metres."""
    return ((joints[:, J[joint]] - joints[:, J[of]]) * axes(joints)[0]).sum(-1)


def aside(joints: np.ndarray, joint: str, of: str, side: str) -> np.ndarray:
    """Distance of a joint from another towards a side, (T,), metres."""
    return (1 if side == "left" else -1) * ((joints[:, J[joint]] - joints[:, J[of]]) * axes(joints)[1]).sum(-1)


def lean(joints: np.ndarray) -> np.ndarray:
    """Forward lean of the trunk, (T,), degrees from upright."""
    height = joints[:, J["neck"], 1] - joints[:, J["pelvis"], 1]
    return np.degrees(np.arctan2(ahead(joints, "neck", "pelvis"), np.maximum(height, 1e-6)))


def sunk(joints: np.ndarray) -> np.ndarray:
    """Depth of the pelvis below its highest point while a foot is on the floor, (T,), metres."""
    height = joints[:, J["pelvis"], 1]
    standing = height[airborne(joints) < 0.05]
    return (standing.max() if len(standing) else height.max()) - height


def airborne(joints: np.ndarray) -> np.ndarray:
    """Height of the lower toe above its rest, (T,), metres: positive in flight."""
    toes = joints[:, [J["left_foot"], J["right_foot"]], 1]
    return toes.min(-1) - np.percentile(toes, 10)


def pulses(signal: np.ndarray, low: float, high: float) -> list[Pulse]:
    """Find the stretches above `low` that exceed `high`; one may begin or end with the clip."""
    return [(start, stop - 1) for start, stop in runs(signal > low) if signal[start:stop].max() > high]


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Find [start, stop) of each stretch of true values of (T,) flags."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]


def turning_points(signal: np.ndarray, least: float) -> list[int]:
    """Find the frames at which a signal turns, ends included, ignoring swings smaller than `least`."""
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
    """Measure the seconds in which a signal covers the middle of its change from frame `start` to frame `stop`."""
    part = signal[start : stop + 1]
    change = part[-1] - part[0]
    if len(part) < 2 or change == 0:
        return 0.0
    share = (part - part[0]) / change
    last = np.flatnonzero(share <= shares[0])[-1]  # where it leaves the lower level for the last time
    times = []
    for level in shares:
        above = last + np.flatnonzero(share[last:] >= level)[0]
        below = max(above - 1, 0)
        gap = share[above] - share[below]
        times.append(below + (level - share[below]) / gap if gap > 0 else above)
    return float(times[1] - times[0]) / FPS


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in degrees between vectors (T, 3) and (T, 3) or (3,)."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip((a * b).sum(-1) / np.maximum(norms, 1e-9), -1, 1)))


def timed(kind: str, curve: np.ndarray, pulse: Pulse, **attributes: str) -> Event:
    """An event of one repetition, timed by the rise and fall of its curve."""
    return Event(kind, *pulse, count=1, seconds=rise_and_fall(curve, pulse), **attributes)


def rise_and_fall(curve: np.ndarray, pulse: Pulse) -> float:
    """Mean seconds of rise and fall; a clip may contain only one of them."""
    start, end = pulse
    peak, height = curve[start : end + 1].max(), np.ptp(curve)
    top = np.flatnonzero(curve[start : end + 1] >= peak - 0.05 * height) + start
    low = [at for at in turning_points(curve, 0.15 * height) if curve[at] < peak - 0.3 * height]
    times = []
    if before := [at for at in low if at < top[0]]:
        times.append(crossing_time(curve, max(before), int(top[0])))
    if after := [at for at in low if at > top[-1]]:
        times.append(crossing_time(-curve, int(top[-1]), min(after)))
    return float(np.mean(times)) if times else 0.0


def flights(joints: np.ndarray) -> list[Pulse]:
    """Find the stretches in which both feet are off the floor."""
    return pulses(airborne(joints), *FLIGHT)


def near(pulse: Pulse, flights: list[Pulse]) -> bool:
    """Whether a pulse belongs to a jump."""
    margin = int(LANDING * FPS)
    return any(overlap(pulse, (start - margin, end + margin)) for start, end in flights)


def overlap(a: Pulse, b: Pulse) -> bool:
    """Whether two pulses share a frame."""
    return a[0] <= b[1] and b[0] <= a[1]

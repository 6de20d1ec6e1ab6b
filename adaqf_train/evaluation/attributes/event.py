"""An event: a stretch of one action in a clip, and what can be read off it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.signals import FPS, Pulse

FLIGHT = (0.03, 0.06)  # metres both toes are off the floor: landed, in flight
LANDING = 0.4  # seconds around a flight in which knees and arms belong to the jump


@dataclass(frozen=True)
class Event:
    """A stretch of one action, with what can be read off it; None where it does not apply."""

    kind: str
    start: int  # frames
    end: int
    side: str | None = None  # "left", "right" or "both": the limb, or where a sideways way leads
    direction: str | None = None  # of travel against facing: "forward", "backward" or "sideways"
    count: int | None = None  # repetitions, or steps of travel
    seconds: float | None = None  # a repetition takes (the middle of its movement, see `signals.crossing_time`)
    turn: float | None = None  # degrees, positive to the left
    distance: float | None = None  # metres between both ends
    speed: float | None = None  # metres per second, the median of the middle half


def timed(kind: str, curve: np.ndarray, pulse: Pulse, **read: str) -> Event:
    return Event(kind, *pulse, count=1, seconds=rise_and_fall(curve, pulse), **read)


def rise_and_fall(curve: np.ndarray, whole: Pulse) -> float:
    """Mean time of going up and of coming down, of which a clip may hold only one."""
    start, end = whole
    peak, height = curve[start : end + 1].max(), np.ptp(curve)
    top = np.flatnonzero(curve[start : end + 1] >= peak - 0.05 * height) + start
    points = signals.turning_points(curve, 0.15 * height)
    foot = max((at for at in points if at < top[0] and curve[at] < peak - 0.3 * height), default=None)
    back = min((at for at in points if at > top[-1] and curve[at] < peak - 0.3 * height), default=None)
    times = []
    if foot is not None:
        times.append(signals.crossing_time(curve, foot, int(top[0])))
    if back is not None:
        times.append(signals.crossing_time(-curve, int(top[-1]), back))
    return float(np.mean(times)) if times else 0.0


def flights(joints: np.ndarray) -> list[Pulse]:
    return signals.pulses(signals.airborne(joints), *FLIGHT)


def near(pulse: Pulse, flights: list[Pulse]) -> bool:
    margin = int(LANDING * FPS)
    return any(overlap(pulse, (start - margin, end + margin)) for start, end in flights)


def overlap(a: Pulse, b: Pulse) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]

"""An event: a stretch of a clip that shows one action, with its measured attributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.signals import FPS, Pulse

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
    seconds: float | None = None  # of the middle of a repetition's movement (`signals.crossing_time`)
    turn: float | None = None  # degrees, positive to the left
    distance: float | None = None  # metres between both ends
    speed: float | None = None  # metres per second, the median of the middle half


def timed(kind: str, curve: np.ndarray, pulse: Pulse, **attributes: str) -> Event:
    """An event of one repetition, timed by the rise and fall of its curve."""
    return Event(kind, *pulse, count=1, seconds=rise_and_fall(curve, pulse), **attributes)


def rise_and_fall(curve: np.ndarray, pulse: Pulse) -> float:
    """Mean seconds of rise and fall; a clip may contain only one of them."""
    start, end = pulse
    peak, height = curve[start : end + 1].max(), np.ptp(curve)
    top = np.flatnonzero(curve[start : end + 1] >= peak - 0.05 * height) + start
    low = [at for at in signals.turning_points(curve, 0.15 * height) if curve[at] < peak - 0.3 * height]
    times = []
    if before := [at for at in low if at < top[0]]:
        times.append(signals.crossing_time(curve, max(before), int(top[0])))
    if after := [at for at in low if at > top[-1]]:
        times.append(signals.crossing_time(-curve, int(top[-1]), min(after)))
    return float(np.mean(times)) if times else 0.0


def flights(joints: np.ndarray) -> list[Pulse]:
    """Find the stretches in which both feet are off the floor."""
    return signals.pulses(signals.airborne(joints), *FLIGHT)


def near(pulse: Pulse, flights: list[Pulse]) -> bool:
    """Whether a pulse belongs to a jump."""
    margin = int(LANDING * FPS)
    return any(overlap(pulse, (start - margin, end + margin)) for start, end in flights)


def overlap(a: Pulse, b: Pulse) -> bool:
    """Whether two pulses share a frame."""
    return a[0] <= b[1] and b[0] <= a[1]

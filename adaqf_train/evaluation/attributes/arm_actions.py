"""Actions of the arms: raising, lowering, waving, punching; elbows distinguish them if a prompt names several."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.signals import FPS, SIDES, Event, J, Pulse, flights, near, overlap, timed

ARM_UP = (35.0, 55.0)  # degrees of elevation: where lifting begins, and what counts as lifted
ARM_SWING = 70.0  # degrees of elevation that an arm may reach when it swings with a fast gait or a kick
LOWERED = 25.0  # degrees by which an arm must come down to be lowered
WAVE_SWING = 12.0  # degrees by which the forearm tilts in a stroke of a wave
ELBOW_BENT = 70.0  # degrees; more in a wave and a guard, less in an arm that is raised straight
PUNCH = (0.35, 0.43)  # metres the wrist is in front of its shoulder: drawn back, struck out
Lifts = dict[str, list[Pulse]]  # side -> stretches in which that arm is up


def raises(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect a raised arm or pair of arms: the way up, the way down, or both."""
    found = []
    for whole, lifts in _lifted(joints, kinds, "raise"):
        sides = [side for side in SIDES if lifts[side] and _moves(joints, side, whole)]
        if sides:
            seconds = min(_raising(joints[:, J[f"{side}_wrist"], 1], whole) for side in sides)
            direction = _arm_direction(joints, whole, sides)
            found.append(Event("raise", *whole, side=_limbs(sides), direction=direction, count=1, seconds=seconds))
    return found


def lowers(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect where arms come down, completely or in part when the clip ends."""
    found = []
    for (start, end), lifts in _arms(joints, kinds):
        sides = [side for side in SIDES if lifts[side]]
        curve = np.max([signals.elevation(joints, side) for side in sides], axis=0)[start : end + 1]
        if end < len(joints) - 1 or curve[-1] < curve.max() - LOWERED:
            found.append(Event("lower", end, end, side=_limbs(sides)))
    return found


def waves(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect waves of a lifted hand; strokes are counted by how often the forearm swings out."""
    found = []
    for whole, lifts in _lifted(joints, kinds, "wave"):
        strokes = {side: _wave_strokes(joints, side, pulses) for side, pulses in lifts.items() if pulses}
        best = max(strokes.values(), key=len)
        # A single stroke has no successor to be timed by: it takes twice the time from outside to inside.
        seconds = float(np.median(np.diff(best))) / FPS if len(best) > 1 else _single_stroke(joints, lifts, best)
        found.append(Event("wave", *whole, side=_limbs(list(strokes)), count=len(best), seconds=seconds))
    return found


def punches(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect blows: the wrist shoots out from a bent elbow."""
    spans = [whole for whole, _ in _lifted(joints, kinds, "punch")]
    found = []
    for side in SIDES:
        bent = signals.flexion(joints, side)
        for start, end in signals.pulses(_reach(joints, side), *PUNCH):
            before = bent[max(start - int(0.5 * FPS), 0) : start + 1]
            if before.max() > ELBOW_BENT and any(overlap((start, end), span) for span in spans):
                found.append(timed("punch", -bent, (start, end), side=side))  # the guard bends the elbow
    return found


def _arms(joints: np.ndarray, kinds: Collection[str]) -> list[tuple[Pulse, Lifts]]:
    """Stretches in which an arm is up, with those of each side in them."""
    high = ARM_SWING if {"travel", "kick"} & set(kinds) else ARM_UP[1]
    up = {side: signals.pulses(signals.elevation(joints, side), ARM_UP[0], high) for side in SIDES}
    if "jump" in kinds:  # arms swing with a jump
        jumps = flights(joints)
        up = {side: [p for p in pulses if not near(p, jumps)] for side, pulses in up.items()}
    merged: list[Pulse] = []
    for start, end in sorted(p for pulses in up.values() for p in pulses):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return [(whole, {side: [p for p in up[side] if overlap(p, whole)] for side in SIDES}) for whole in merged]


def _lifted(joints: np.ndarray, kinds: Collection[str], kind: str) -> list[tuple[Pulse, Lifts]]:
    return [(whole, lifts) for whole, lifts in _arms(joints, kinds) if _arm_kind(joints, whole, kinds) == kind]


def _arm_kind(joints: np.ndarray, whole: Pulse, kinds: Collection[str]) -> str:
    """The kind among those sought that a lifted arm belongs to."""
    sought = [kind for kind in ("punch", "wave", "raise") if kind in kinds]
    if len(sought) == 1:
        return sought[0]
    part = joints[whole[0] : whole[1] + 1]
    bent = {side: np.median(signals.flexion(part, side)) > ELBOW_BENT for side in SIDES}
    lifted = {side: np.median(signals.elevation(part, side)) > ARM_UP[0] for side in SIDES}
    struck = any(signals.pulses(_reach(part, side), *PUNCH) for side in SIDES)
    if "punch" in sought and all(lifted.values()) and any(bent.values()) and struck:
        return "punch"
    if "wave" in sought and any(bent[side] and lifted[side] for side in SIDES):
        return "wave"
    return "raise" if "raise" in sought else sought[-1]


def _reach(joints: np.ndarray, side: str) -> np.ndarray:
    return signals.ahead(joints, f"{side}_wrist", f"{side}_shoulder")


def _limbs(sides: Collection[str]) -> str | None:
    return "both" if len(sides) == 2 else next(iter(sides), None)


def _moves(joints: np.ndarray, side: str, whole: Pulse) -> bool:
    """Whether an arm goes up or comes down around a stretch; one that stays up all the time is not raised."""
    margin = int(0.25 * FPS)
    return bool(np.ptp(signals.elevation(joints, side)[max(whole[0] - margin, 0) : whole[1] + 1 + margin]) > LOWERED)


def _raising(height: np.ndarray, whole: Pulse) -> float:
    """Seconds of the way up at the hand's greatest speed, or of the way down if the clip begins with the hand up."""
    start, end = whole
    rate = np.gradient(signals.smooth(height, 3)) * FPS
    early, late = max(start - int(0.25 * FPS), 0), end + 1 + int(0.25 * FPS)
    fastest = rate[early : end + 1].max() if start > 0 else -rate[start:late].min()
    return float(np.ptp(height[early:late]) / max(fastest, 1e-6))


def _arm_direction(joints: np.ndarray, whole: Pulse, sides: Collection[str]) -> str:
    part = joints[whole[0] : whole[1] + 1]
    front = np.mean([_reach(part, side).max() for side in sides])
    out = np.mean([signals.aside(part, f"{side}_wrist", f"{side}_shoulder", side).max() for side in sides])
    return "forward" if front > out else "sideways"


def _wave_strokes(joints: np.ndarray, side: str, pulses: list[Pulse]) -> list[int]:
    """Frames in which the forearm is farthest out while the arm is up."""
    tilt, up = signals.outward(joints, side), signals.elevation(joints, side)
    strokes = []
    for start, end in pulses:
        high = np.flatnonzero((np.abs(tilt[start : end + 1]) < 75) & (up[start : end + 1] > ARM_UP[1])) + start
        if len(high) < 3:
            continue
        part = tilt[high[0] : high[-1] + 1]
        points = signals.turning_points(part, WAVE_SWING)
        for before, at, after in zip(points, points[1:], points[2:], strict=False):
            if part[at] > part[before] and part[at] > part[after]:
                strokes.append(int(high[0]) + at)
    return strokes


def _single_stroke(joints: np.ndarray, lifts: Lifts, strokes: list[int]) -> float | None:
    if not strokes:
        return None
    times = []
    for side, pulses in lifts.items():
        for start, end in pulses:
            if start <= strokes[0] <= end:
                points = signals.turning_points(signals.outward(joints, side)[strokes[0] : end + 1], WAVE_SWING)
                times += [2 * points[1] / FPS] if len(points) > 2 else []
    return float(np.mean(times)) if times else None

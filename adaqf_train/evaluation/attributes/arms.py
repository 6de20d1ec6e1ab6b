"""What arms do: raising, lowering, waving, punching, told apart by elbows where a prompt names several."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.event import Event, flights, near, overlap, timed
from adaqf_train.evaluation.attributes.signals import FPS, SIDES, J, Pulse

ARM_UP = (35.0, 55.0)  # degrees the wrist is lifted about the shoulder: where lifting begins, and what counts as lifted
ARM_SWING = 70.0  # degrees; what an arm that swings with a fast gait or a kick may reach
LOWERED = 25.0  # degrees an arm that is coming down has come down
WAVE_SWING = 12.0  # degrees the forearm tilts for a stroke of a wave
ELBOW_BENT = 70.0  # degrees; what tells a wave and a guard from an arm that is raised straight
PUNCH = (0.35, 0.43)  # metres the wrist is ahead of its shoulder: drawn back, struck out


def raises(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a raised arm or pair of arms: up, or down again, or both."""
    found = []
    for whole, sides in _arms(joints, kinds):
        if _arm_kind(joints, whole, kinds) != "raise":
            continue
        lifted = [side for side in SIDES if sides[side] and _lifts(joints, side, whole)]
        if not lifted:
            continue
        where = _arm_direction(joints, whole, lifted)
        seconds = min(_raising(joints[:, J[f"{s}_wrist"], 1], whole) for s in lifted)
        found.append(Event("raise", *whole, side=_limbs(lifted), direction=where, count=1, seconds=seconds))
    return found


def lowers(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Where arms come down: on the way, or down already when the clip ends."""
    found = []
    for (start, end), sides in _arms(joints, kinds):
        lifted = [side for side in SIDES if sides[side]]
        curve = np.max([signals.elevation(joints, side) for side in lifted], axis=0)[start : end + 1]
        if end < len(joints) - 1 or curve[-1] < curve.max() - LOWERED:
            found.append(Event("lower", end, end, side=_limbs(lifted)))
    return found


def waves(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a lifted hand, its strokes counted by how often the forearm swings out."""
    found = []
    for whole, sides in _arms(joints, kinds):
        if _arm_kind(joints, whole, kinds) != "wave":
            continue
        strokes = {side: _wave_strokes(joints, side, pulses) for side, pulses in sides.items() if pulses}
        best = max(strokes.values(), key=len)
        beats = np.diff(best)
        # A single stroke has no second to be timed against: it takes twice the time from outside to inside.
        seconds = float(np.median(beats)) / FPS if len(beats) else _single_stroke(joints, sides, best)
        found.append(Event("wave", *whole, side=_limbs(list(strokes)), count=len(best), seconds=seconds))
    return found


def punches(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a blow: the wrist shoots out from a bent elbow."""
    spans = [whole for whole, _ in _arms(joints, kinds) if _arm_kind(joints, whole, kinds) == "punch"]
    found = []
    for side in SIDES:
        reach = _reach(joints, side)
        bent = signals.flexion(joints, side)
        for start, end in signals.pulses(reach, *PUNCH):
            before = bent[max(start - int(0.5 * FPS), 0) : start + 1]
            if before.max() > ELBOW_BENT and any(overlap((start, end), span) for span in spans):
                found.append(timed("punch", -bent, (start, end), side=side))  # the guard bends the elbow
    return found


def _arms(joints: np.ndarray, kinds: Collection[str]) -> list[tuple[Pulse, dict[str, list[Pulse]]]]:
    """Stretches in which an arm is up, with the stretches of either side in them."""
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


def _arm_kind(joints: np.ndarray, whole: Pulse, kinds: Collection[str]) -> str:
    """Which of the kinds an arm's lifting is."""
    sought = [kind for kind in ("punch", "wave", "raise") if kind in kinds]
    if len(sought) == 1:
        return sought[0]
    part = joints[whole[0] : whole[1] + 1]
    bent = {side: np.median(signals.flexion(part, side)) > ELBOW_BENT for side in SIDES}
    lifted = {side: np.median(signals.elevation(part, side)) > ARM_UP[0] for side in SIDES}
    if "punch" in sought and all(lifted.values()) and (bent["left"] or bent["right"]) and _struck(part):
        return "punch"
    if "wave" in sought and any(bent[side] and lifted[side] for side in SIDES):
        return "wave"
    return "raise" if "raise" in sought else sought[-1]


def _struck(joints: np.ndarray) -> bool:
    return any(signals.pulses(_reach(joints, side), *PUNCH) for side in SIDES)


def _reach(joints: np.ndarray, side: str) -> np.ndarray:
    return signals.ahead(joints, f"{side}_wrist", f"{side}_shoulder")


def _limbs(present: Collection[str]) -> str | None:
    return "both" if len(present) == 2 else next(iter(present), None)


def _lifts(joints: np.ndarray, side: str, whole: Pulse) -> bool:
    """Whether an arm goes up or comes down around a stretch; one that is up all the time is not raised."""
    margin = int(0.25 * FPS)
    return bool(np.ptp(signals.elevation(joints, side)[max(whole[0] - margin, 0) : whole[1] + 1 + margin]) > LOWERED)


def _raising(height: np.ndarray, whole: Pulse) -> float:
    """Seconds a hand would take at its greatest speed for its way up; down, where a clip begins with the hand up."""
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
    """Frames at which the forearm is farthest out while the arm is up."""
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


def _single_stroke(joints: np.ndarray, sides: dict[str, list[Pulse]], strokes: list[int]) -> float | None:
    if not strokes:
        return None
    times = []
    for side in SIDES:
        for start, end in sides[side]:
            if start <= strokes[0] <= end:
                part = signals.outward(joints, side)[strokes[0] : end + 1]
                points = signals.turning_points(part, WAVE_SWING)
                if len(points) > 2:
                    times.append(2 * points[1] / FPS)
    return float(np.mean(times)) if times else None

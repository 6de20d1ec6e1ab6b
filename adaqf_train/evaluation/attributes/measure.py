"""What happens in a clip, measured on its joints: an event for every stretch in which an action of a kind is seen.

No learned network. Each kind of action has one curve that rises with every repetition, with thresholds far from both
rest and full height, so that a small fault of a motion does not move a figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.signals import FPS, SIDES, J, Pulse

ARM_UP = (35.0, 55.0)  # degrees the wrist is lifted about the shoulder: where lifting begins, and what counts as lifted
ARM_SWING = 70.0  # degrees; what an arm that swings with a fast gait or a kick may reach
LOWERED = 25.0  # degrees an arm that is coming down has come down
WAVE_SWING = 12.0  # degrees the forearm tilts for a stroke of a wave
ELBOW_BENT = 70.0  # degrees; what tells a wave and a guard from an arm that is raised straight
PUNCH = (0.35, 0.43)  # metres the wrist is ahead of its shoulder: drawn back, struck out
KICK = (0.3, 0.42)  # metres the toe is ahead of the pelvis: set down, kicked out
KICK_HEIGHT = 0.12  # metres the toe is above the floor in a kick, which a long stride's is not
FLIGHT = (0.03, 0.06)  # metres both toes are off the floor: landed, in flight
LANDING = 0.4  # seconds around a flight in which knees and arms belong to the jump
BOW = (9.0, 16.0)  # degrees of lean: upright, bowed
CROUCH = (0.05, 0.11)  # metres the pelvis is sunk: standing, crouched
SEAT = (0.12, 0.25)  # metres, of sitting
FOOT_UP = (0.06, 0.15)  # metres an ankle is above the other: standing on both legs, on one
STRIDING = 0.4  # metres per second above which a body walks
MOVING = 0.13  # metres per second below which a body stands
LEAST_WAY = 0.1  # metres both feet together come along; shifts of weight stay below
SETTLING = 4  # frames a foot needs to follow the body
SWERVE = 0.8  # seconds; a diagonal walk swerves with every step
LEAST_TURN = 20.0  # degrees; the sway of a gait stays below
STEP_SWING = 0.15  # metres one foot overtakes the other by


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


def events(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """The events of some kinds, in order of time. joints: (T, 22, 3), metres, Y up, 20 frames a second.

    kinds: of MEASURES. What a kind's curve shows is taken for that kind, unless another of `kinds` explains it better:
    a lifted arm is a wave if a wave is looked for, and a wave or a punch by its elbows if both are.
    """
    found = [event for kind in kinds for event in MEASURES[kind](joints, kinds)]
    return _joined(sorted(found, key=lambda event: (event.start, event.kind)))


def _arms(joints: np.ndarray, kinds: Collection[str]) -> list[tuple[Pulse, dict[str, list[Pulse]]]]:
    """Stretches in which an arm is up, with the stretches of either side in them."""
    high = ARM_SWING if {"travel", "kick"} & set(kinds) else ARM_UP[1]
    up = {side: signals.pulses(signals.elevation(joints, side), ARM_UP[0], high) for side in SIDES}
    if "jump" in kinds:  # arms swing with a jump
        flights = _flights(joints)
        up = {side: [p for p in pulses if not _near(p, flights)] for side, pulses in up.items()}
    merged: list[Pulse] = []
    for start, end in sorted(p for pulses in up.values() for p in pulses):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return [(whole, {side: [p for p in up[side] if _overlap(p, whole)] for side in SIDES}) for whole in merged]


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


def _raises(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
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


def _lowers(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Where arms come down: on the way, or down already when the clip ends."""
    found = []
    for (start, end), sides in _arms(joints, kinds):
        lifted = [side for side in SIDES if sides[side]]
        curve = np.max([signals.elevation(joints, side) for side in lifted], axis=0)[start : end + 1]
        if end < len(joints) - 1 or curve[-1] < curve.max() - LOWERED:
            found.append(Event("lower", end, end, side=_limbs(lifted)))
    return found


def _arm_direction(joints: np.ndarray, whole: Pulse, sides: Collection[str]) -> str:
    part = joints[whole[0] : whole[1] + 1]
    front = np.mean([_reach(part, side).max() for side in sides])
    out = np.mean([signals.aside(part, f"{side}_wrist", f"{side}_shoulder", side).max() for side in sides])
    return "forward" if front > out else "sideways"


def _rise_and_fall(curve: np.ndarray, whole: Pulse) -> float:
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


def _waves(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
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


def _punches(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    spans = [whole for whole, _ in _arms(joints, kinds) if _arm_kind(joints, whole, kinds) == "punch"]
    found = []
    for side in SIDES:
        reach = _reach(joints, side)
        bent = signals.flexion(joints, side)
        for start, end in signals.pulses(reach, *PUNCH):
            before = bent[max(start - int(0.5 * FPS), 0) : start + 1]
            if before.max() > ELBOW_BENT and any(_overlap((start, end), span) for span in spans):
                found.append(_timed("punch", -bent, (start, end), side=side))  # the guard bends the elbow
    return found


def _timed(kind: str, curve: np.ndarray, pulse: Pulse, **read: str) -> Event:
    return Event(kind, *pulse, count=1, seconds=_rise_and_fall(curve, pulse), **read)


def _kicks(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    found = []
    for side in SIDES:
        reach = signals.ahead(joints, f"{side}_foot", "pelvis")
        height = joints[:, J[f"{side}_foot"], 1] - np.percentile(joints[:, [J["left_foot"], J["right_foot"]], 1], 10)
        for start, end in signals.pulses(reach, *KICK):
            if height[start : end + 1].max() > KICK_HEIGHT:
                found.append(Event("kick", start, end, side=side, count=1, seconds=_time_up(height, start)))
    return found


def _time_up(height: np.ndarray, at: int) -> float:
    """Seconds that a foot which is up at frame `at` is off the floor."""
    return next(((b - a) / FPS for a, b in signals.runs(height > FLIGHT[0]) if a <= at < b), 0.0)


def _flights(joints: np.ndarray) -> list[Pulse]:
    return signals.pulses(signals.airborne(joints), *FLIGHT)


def _jumps(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    found = []
    for start, end in _flights(joints):
        around = (max(start - 4, 0), min(end + 6, len(joints) - 1))
        way = joints[around[1], 0] - joints[around[0], 0]
        forward = float(way @ signals.axes(joints)[0][start])
        found.append(Event("jump", start, end, direction="forward" if forward > 0.2 else "up", count=1))
    return found


def _dips(kind: str, curve: np.ndarray, pulses: list[Pulse]) -> list[Event]:
    """One event a dip; a dip counts when it reaches half of the deepest."""
    deepest = max((curve[start : end + 1].max() for start, end in pulses), default=0.0)
    return [_timed(kind, curve, p) for p in pulses if curve[p[0] : p[1] + 1].max() > 0.5 * deepest]


def _bows(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    curve, sunk = signals.lean(joints), signals.sunk(joints)
    curve = curve - np.percentile(curve, 10)
    others = _flights(joints) if "jump" in kinds else []
    found = [
        (start, end)
        for start, end in signals.pulses(curve, *BOW)
        if not _near((start, end), others) and not ("crouch" in kinds and sunk[start : end + 1].max() > CROUCH[1])
    ]
    return _dips("bow", curve, found)


def _crouches(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    curve = signals.sunk(joints)
    others = _flights(joints) if "jump" in kinds else []
    pace = np.hypot(*signals.velocity(joints).T)  # a long stride sinks the pelvis too
    found = [p for p in signals.pulses(curve, *CROUCH) if np.median(pace[p[0] : p[1] + 1]) < STRIDING]
    return _dips("crouch", curve, [p for p in found if not _near(p, others)])


def _seats(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    curve = signals.sunk(joints)
    return [_timed("seat", curve, pulse) for pulse in signals.pulses(curve, *SEAT)]


def _one_leg(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    found = []
    for side, other in (SIDES, SIDES[::-1]):
        curve = joints[:, J[f"{side}_ankle"], 1] - joints[:, J[f"{other}_ankle"], 1]
        found += [_timed("one_leg", curve, pulse, side=side) for pulse in signals.pulses(curve, *FOOT_UP)]
    longest = max(found, key=lambda event: event.end - event.start, default=None)
    return [longest] if longest else []


def _turns(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    facing = signals.heading(joints)
    found = []
    for start, end in itertools.pairwise(signals.turning_points(facing, LEAST_TURN)):
        turned = float(facing[end] - facing[start])
        if abs(turned) < LEAST_TURN:
            continue
        share = (facing[start : end + 1] - facing[start]) / turned
        first = start + int(np.flatnonzero(share <= 0.05)[-1])
        last = start + int(np.flatnonzero(share >= 0.95)[0])
        seconds = signals.crossing_time(facing, start, end)
        side = "left" if turned > 0 else "right"
        found.append(Event("turn", first, max(first, last), side=side, turn=turned, seconds=seconds))
    return found


def _travels(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    moving = signals.velocity(joints)
    pace = np.hypot(*moving.T)
    label = np.where(pace < MOVING, 0, np.where(np.abs(moving[:, 1]) > 1.5 * np.abs(moving[:, 0]), 3, 1))
    label = np.where((label == 1) & (moving[:, 0] < 0), 2, label)
    label = np.where((label == 3) & (moving[:, 1] < 0), 4, label)
    if "jump" in kinds:
        for start, end in _flights(joints):
            label[max(start - int(LANDING * FPS), 0) : end + int(LANDING * FPS) + 1] = 0
    names = {1: "forward", 2: "backward", 3: "sideways", 4: "sideways"}
    label = _without_swerves(label)
    found = []
    for value, direction in names.items():
        for start, stop in signals.runs(label == value):
            if _carried(joints, start, stop - 1, 0 if value < 3 else 1) > LEAST_WAY:
                found.append(_way(joints, moving, start, stop - 1, direction))
    return found


def _without_swerves(label: np.ndarray) -> np.ndarray:
    """Labels (T,) in which a short swerve between two stretches of one direction has that direction."""
    label = label.copy()
    bounds = np.concatenate(([0], np.flatnonzero(np.diff(label)) + 1, [len(label)]))
    pieces = [(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
    for (before, _), (start, stop), (after, _) in zip(pieces, pieces[1:], pieces[2:], strict=False):
        if 0 not in (label[before], label[start]) and label[before] == label[after] and stop - start < SWERVE * FPS:
            label[start:stop] = label[before]
    return label


def _carried(joints: np.ndarray, start: int, end: int, axis: int) -> float:
    """How far both feet together have come along an axis (0: forward or back, 1: to a side), metres."""
    feet = joints[:, [J["left_ankle"], J["right_ankle"]]].mean(1)
    way = feet[min(end + SETTLING, len(feet) - 1)] - feet[max(start - SETTLING, 0)]
    return abs(float(way @ signals.axes(joints)[axis][(start + end) // 2]))


def _way(joints: np.ndarray, moving: np.ndarray, start: int, end: int, direction: str) -> Event:
    path = joints[:, J["pelvis"]][:, (0, 2)]
    quarter = (end - start) // 4
    middle = moving[start + quarter : end - quarter + 1]
    across = float(moving[start : end + 1, 1].sum())
    return Event(
        "travel",
        start,
        end,
        side=("left" if across > 0 else "right"),
        direction=direction,
        count=_steps(joints, start, end),
        distance=float(np.linalg.norm(path[end] - path[start])),
        speed=float(np.median(np.hypot(*middle.T))),
    )


def _steps(joints: np.ndarray, start: int, end: int) -> int:
    """Steps between two frames: how often one foot overtakes the other."""
    apart = signals.smooth(
        signals.ahead(joints, "left_ankle", "pelvis") - signals.ahead(joints, "right_ankle", "pelvis"), 3
    )
    return len(signals.turning_points(apart[start : end + 1], STEP_SWING)) - 1


def _joined(found: list[Event]) -> list[Event]:
    """Repetitions with the same limb in the same direction become one event, unless something else came between."""
    joined: list[Event] = []
    parts: list[list[Event]] = []
    for event in found:
        at = next((i for i in reversed(range(len(joined))) if joined[i].kind == event.kind), None)
        if at is not None and event.kind in REPEATED and _repeats(joined[at], event, found):
            parts[at].append(event)
            joined[at] = _together(parts[at])
        else:
            joined.append(event)
            parts.append([event])
    return joined


def _repeats(before: Event, event: Event, found: list[Event]) -> bool:
    between = any(before.end < e.start and e.end < event.start for e in found if e.kind != event.kind)
    return (before.side, before.direction) == (event.side, event.direction) and not between


def _together(events: list[Event]) -> Event:
    times = [event.seconds for event in events if event.seconds is not None]
    count = sum(event.count or 0 for event in events)
    return replace(events[0], end=events[-1].end, count=count, seconds=float(np.median(times)) if times else None)


def _overlap(a: Pulse, b: Pulse) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _near(pulse: Pulse, flights: list[Pulse]) -> bool:
    margin = int(LANDING * FPS)
    return any(_overlap(pulse, (start - margin, end + margin)) for start, end in flights)


REPEATED = ("raise", "wave", "punch", "kick", "jump", "bow", "crouch")
MEASURES: dict[str, Callable[[np.ndarray, Collection[str]], list[Event]]] = {
    "travel": _travels,
    "turn": _turns,
    "raise": _raises,
    "lower": _lowers,
    "wave": _waves,
    "punch": _punches,
    "kick": _kicks,
    "jump": _jumps,
    "bow": _bows,
    "crouch": _crouches,
    "seat": _seats,
    "one_leg": _one_leg,
}

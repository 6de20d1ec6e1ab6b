"""Actions of the arms: raising, lowering, waving, punching."""

from __future__ import annotations

import numpy as np

from adaqf_train.procedural.body import OTHER, SIDES, SIGN
from adaqf_train.procedural.timeline import Keys, Segment, Style, Timeline

PACE = {"slow": 1.72, "normal": 1.0, "fast": 0.62}  # factors on the duration of a movement, well apart
Pose = dict[str, float]


def raised(style: Style, rng: np.random.Generator, height: str, direction: str) -> Pose:
    """Angles of a raised arm, as changes from a hanging one.

    An overhead arm stays clear of the vertical, where the rotation features are singular.
    """
    drop = {"shoulder": float(rng.uniform(82, 92)), "overhead": float(rng.uniform(146, 154))}[height]  # draws both
    bend = float(rng.uniform(2, 8)) - style.elbow
    if direction == "forward":
        outward = float(rng.uniform(0, 5) if height == "shoulder" else rng.uniform(-12, -6))
        return {"swing": drop - style.posture, "abduct": outward - style.abduct, "twist": 18, "elbow": bend}
    return {"swing": 8, "abduct": drop - style.abduct, "twist": 28 if height == "overhead" else 18, "elbow": bend}


def strokes(there: float, hold: float, back: float, rest: float, count: int, lead: float = 0.0) -> Keys:
    """Keys (seconds, 0..1) that go up and back `count` times."""
    keys, at = [(lead, 0.0)], lead
    for i in range(count):
        keys += [(at + there, 1.0), (at + there + hold, 1.0), (at + there + hold + back, 0.0)]
        at += there + hold + back
        if i + 1 < count:
            at += rest
            keys.append((at, 0.0))
    return keys


def _move(timeline: Timeline, start: float, side: str, pose: Pose, keys: Keys) -> None:
    """Move the arms of a side, "left", "right" or "both", to a pose."""
    sides = SIDES if side == "both" else (side,)
    timeline.move(start, keys, **{f"{arm}_{angle}": value for arm in sides for angle, value in pose.items()})


def _raise(timeline: Timeline, start: float, side: str, pose: Pose, keys: Keys, height: str) -> None:
    """Raise arms, and lean the trunk away from one raised arm, or back from two; the head follows the hand."""
    _move(timeline, start, side, pose, keys)
    amount = 1.0 if height == "overhead" else 0.6
    if side == "both":
        timeline.move(start, keys, spine_pitch=-3.0 * amount, head_pitch=-7.0 * amount)
        return
    timeline.move(start, keys, spine_roll=-3.5 * amount * SIGN[side], shift_left=-0.018 * amount * SIGN[side])
    timeline.move(start, keys, spine_yaw=-2.5 * amount * SIGN[side], head_yaw=9.0 * amount * SIGN[side])
    timeline.move(start, keys, head_pitch=-4.0 * amount)


def raise_arm(
    style: Style, rng: np.random.Generator, side: str, height: str, direction: str, speed: str, count: int
) -> Segment:
    """Raise the arm(s) and lower them, `count` times."""
    pace = PACE[speed] * style.tempo * (0.95 if height == "shoulder" else 1.12)
    keys = strokes(0.44 * pace, 0.06 + 0.05 * pace, 0.42 * pace, 0.06, count)
    pose = raised(style, rng, height, direction)
    facts = {"action": "raise_arm", "side": side, "height": height, "direction": direction}
    facts |= {"speed": speed, "count": count}

    def write(timeline: Timeline, start: float) -> None:
        _raise(timeline, start, side, pose, keys, height)

    return Segment(facts, keys[-1][0], write)


def hold_arm(
    style: Style, rng: np.random.Generator, action: str, side: str, height: str, direction: str, speed: str
) -> Segment:
    """Raise the arm(s) and keep them up ("lift_arm"), or start with them up and lower them ("lower_arm").

    One end of these actions is not the neutral stand, so each fills a clip of its own.
    """
    move = 0.62 * (PACE[speed] * style.tempo * 1.15)
    pose = raised(style, rng, height, direction)
    facts = {"action": action, "side": side, "height": height, "direction": direction, "speed": speed}

    def write(timeline: Timeline, start: float) -> None:
        if action == "lift_arm":
            _raise(timeline, start, side, pose, [(0.0, 0.0), (move, 1.0)], height)
        else:  # up long before the clip begins
            keys = [(0.1, 1.0), (100.0 + start, 1.0), (100.0 + start + move, 0.0)]
            _raise(timeline, -100.0, side, pose, keys, height)

    return Segment(facts, move, write)


def wave(style: Style, rng: np.random.Generator, side: str, speed: str, count: int) -> Segment:
    """Lift the hand(s) beside the head, swing the forearm out and in `count` times, lower the hand(s)."""
    pace = PACE[speed] * style.tempo
    up, beat = 0.42 + 0.12 * pace, 0.5 * pace + 0.06
    down = up + count * beat + 0.05
    end = down + up
    upper, twist, arc = (float(rng.uniform(*bounds)) for bounds in ((56, 72), (62, 70), (24, 30)))
    pose = {"swing": 14.0, "abduct": upper - style.abduct, "twist": twist, "elbow": 108 - style.elbow}
    swings = [(up - 0.08, 0.0)]
    for i in range(count):  # the forearm swings out past its middle, then in past it
        at = up - 0.08 + i * beat
        swings += [(at + 0.25 * beat, 1.0), (at + 0.75 * beat, -1.0)]
    swings.append((down + 0.05, 0.0))

    def write(timeline: Timeline, start: float) -> None:
        _raise(timeline, start, side, pose, [(0.0, 0.0), (up, 1.0), (down, 1.0), (end, 0.0)], "overhead")
        _move(timeline, start, side, {"elbow": -arc, "abduct": 5.0}, swings)

    return Segment({"action": "wave", "side": side, "speed": speed, "count": count}, end, write)


def punch(style: Style, rng: np.random.Generator, side: str, speed: str, count: int) -> Segment:
    """Raise a guard, punch forward `count` times with the hand, drop the guard."""
    pace = PACE[speed] * style.tempo
    guard = 0.38
    out, hold, back, rest = 0.08 + 0.24 * pace, 0.03 + 0.03 * pace, 0.09 + 0.3 * pace, 0.02 + 0.12 * pace
    keys = strokes(out, hold, back, rest, count, lead=guard + 0.08)
    end = keys[-1][0] + 0.05 + guard
    up: Pose = {"swing": 34.0, "abduct": 6.0, "twist": -6.0, "elbow": 122 - style.elbow}
    strike: Pose = {"swing": 86 - 34.0, "abduct": -style.abduct - 8.0, "twist": -8.0, "elbow": 12 - 122.0}
    facts = {"action": "punch", "side": side, "direction": "forward", "speed": speed, "count": count}

    def write(timeline: Timeline, start: float) -> None:
        guarding = [(0.0, 0.0), (guard, 1.0), (end - guard, 1.0), (end, 0.0)]
        _move(timeline, start, "both", up, guarding)
        timeline.move(start, guarding, lift=-0.03, spine_pitch=5.0)
        _move(timeline, start, side, strike, keys)
        timeline.move(start, keys, spine_yaw=-9.0 * SIGN[side], pelvis_yaw=-6.0 * SIGN[side])
        timeline.move(start, keys, head_yaw=13.0 * SIGN[side], shift_left=-0.012 * SIGN[side])
        timeline.move(start, keys, **{f"{OTHER[side]}_elbow": 4.0}, shift_forward=0.04, spine_pitch=3.0)

    return Segment(facts, end, write)

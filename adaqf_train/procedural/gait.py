"""Footsteps: walking and running in any direction, curves, corners and turns on the spot.

A gait writes a velocity profile, a heading profile and the lift and land times of each foot. `Timeline` derives the
footholds: a foot lands beside the body of its mid-stance, so footholds fit the path for any direction and turn.
"""

from __future__ import annotations

import numpy as np

from adaqf_train.procedural.body import OTHER, SIDES, SIGN
from adaqf_train.procedural.timeline import Segment, Step, Style, Timeline, bump, ease

# Metres per second, well apart so that joints tell the words apart.
SPEEDS = {
    "walk": {"slow": (0.60, 0.72), "normal": (1.02, 1.18), "fast": (1.55, 1.75)},
    "run": {"slow": (2.0, 2.15), "normal": (2.45, 2.65), "fast": (3.1, 3.4)},
    "walk_backward": {"slow": (0.38, 0.46), "normal": (0.66, 0.76), "fast": (1.05, 1.2)},
    "sidestep": {"slow": (0.24, 0.29), "normal": (0.42, 0.49), "fast": (0.7, 0.8)},
}
# Metres per step, and how much longer steps are for each metre per second: faster gaits have longer and more steps.
STEP_LENGTHS = {"walk": (0.29, 0.30), "run": (0.36, 0.20), "walk_backward": (0.21, 0.26), "sidestep": (0.13, 0.21)}
TURN_STEP = {"slow": 0.72, "normal": 0.46, "fast": 0.31}  # seconds per step of a turn on the spot
DEGREES_PER_STEP = {45: 2, 90: 4, 135: 5}  # steps a turn on the spot takes; the last one closes the feet
LEAD = 0.12  # seconds between the start of a segment and the first foot's lift


def locomotion(
    style: Style, rng: np.random.Generator, action: str, direction: str, speed: str, seconds: float, **bend: object
) -> Segment:
    """Step in one direction for about `seconds`.

    action: "walk" or "run"; direction: "forward", "backward", "left" or "right". bend: `path` ("curve" spreads the turn
    over the whole way, "corner" puts it in the middle), `side` and `angle_deg`.
    """
    kind = {"backward": "walk_backward", "left": "sidestep", "right": "sidestep"}.get(direction, action)
    pace = float(rng.uniform(*SPEEDS[kind][speed]))
    shortest, longer = STEP_LENGTHS[kind]
    beat = (shortest + longer * pace) * style.stride / pace
    steps = max(round((seconds - 0.5) / beat), 3 if kind != "sidestep" else 2)
    if kind == "sidestep":
        steps += steps % 2  # the trailing foot closes
    first = direction if kind == "sidestep" else str(rng.choice(SIDES))
    swing = {"run": 1.32, "sidestep": 0.72}.get(kind, 0.8) * beat
    end = LEAD + (steps - 1) * beat + min(swing, 0.9 * beat) + 0.1
    facts = {"action": "sidestep" if kind == "sidestep" else action, "direction": direction, "speed": speed, **bend}
    degrees = SIGN[str(bend["side"])] * float(bend["angle_deg"]) + float(rng.uniform(-5, 5)) if bend else 0.0
    ramp = 1.9 * beat if kind == "run" else 1.1 * beat

    def write(timeline: Timeline, start: float) -> None:
        time = timeline.time - start
        profile = ease(time, 0, ramp) - ease(time, end - 1.15 * ramp, end)
        axis = 0 if direction in ("forward", "backward") else 1
        timeline.velocity[:, axis] += (-1 if direction in ("backward", "right") else 1) * pace * profile
        lift = start + LEAD + beat * np.arange(steps)
        for i, at in enumerate(lift):
            effort = float(np.interp(at + 0.5 * swing, timeline.time, profile))
            side = first if i % 2 == 0 else OTHER[first]
            timeline.steps.append(_step(kind, side, float(at), swing, beat, pace, effort))
        if bend:
            _bend(timeline, time, end, degrees, str(bend["path"]))
        _carry(timeline, time, end, ramp, kind, pace, beat)

    return Segment(facts, end + 0.2, write)


def _step(kind: str, side: str, lift: float, swing: float, beat: float, pace: float, effort: float) -> Step:
    """A step at `effort` (0..1 of full speed), which is low when the gait starts and stops."""
    if kind == "run":
        swing = (0.85 + 0.47 * effort) * beat
        rise = (0.09 + 0.08 * (pace - 2)) * effort
        return Step(side, lift, lift + swing, 0.09 + rise, 25 + 40 * effort, 25 + (35 + 12 * (pace - 2)) * effort, -6)
    if kind == "sidestep":
        return Step(side, lift, lift + swing, 0.075 + 0.02 * pace, 14, 8, 4, spread=0.5 * pace * beat * effort)
    if kind == "walk_backward":
        return Step(side, lift, lift + swing, 0.085 + 0.02 * pace, 8, 14, 12 + 8 * effort)
    return Step(side, lift, lift + swing, 0.075 + 0.012 * pace, 20 + 22 * effort, 10 + 16 * effort, -8 - 8 * effort)


def _bend(timeline: Timeline, time: np.ndarray, end: float, degrees: float, path: str) -> None:
    """Turn the heading along the way; head and trunk lead the turn."""
    half = 0.55 if path == "corner" else 0.5 * end
    middle = 0.5 * end
    timeline.heading += degrees * ease(time, middle - half, middle + half)
    look = bump(time, middle - half - 0.3, middle + 0.8 * half)
    timeline.channels["head_yaw"] += float(np.clip(0.25 * degrees, -22, 22)) * look
    timeline.channels["spine_roll"] += float(np.clip(0.05 * degrees, -4, 4)) * look


def _carry(timeline: Timeline, time: np.ndarray, end: float, ramp: float, kind: str, pace: float, beat: float) -> None:
    """Add the lean, bounce and arm carriage of the gait."""
    going = ease(time, 0, ramp) - ease(time, end - ramp, end + 0.15)
    timeline.channels["lift"] -= {"run": 0.045, "sidestep": 0.03}.get(kind, 0.012 + 0.012 * pace) * going
    if kind == "sidestep":
        return
    if kind == "walk_backward":
        timeline.channels["spine_pitch"] += 3 * going
        timeline.arm_coupling -= 0.3 * going
        return
    timeline.channels["pelvis_pitch"] += (1.5 * pace if kind == "walk" else 4 + 1.6 * pace) * going
    if kind == "run":
        # Lowest in mid-stance, highest in flight: a spring, where walking is a pendulum.
        stance = LEAD + 1.66 * beat  # middle of the first stance: it lands at 1.32 and lifts at 2 beats
        timeline.channels["lift"] += -0.032 * np.cos(2 * np.pi * (time - stance) / beat) * going
        for side in SIDES:
            timeline.channels[f"{side}_elbow"] += 62 * going
            timeline.channels[f"{side}_swing"] -= 8 * going
            timeline.channels[f"{side}_abduct"] += 5 * going
            timeline.channels[f"{side}_twist"] -= 6 * going


def turn(style: Style, rng: np.random.Generator, side: str, angle_deg: int, speed: str) -> Segment:
    """Turn on the spot in small steps, the inner foot first."""
    beat = TURN_STEP[speed] * style.tempo
    steps = DEGREES_PER_STEP[angle_deg]
    swing = 0.82 * beat
    end = LEAD + (steps - 1) * beat + swing
    degrees = SIGN[side] * (angle_deg + float(rng.uniform(-6, 6)))

    def write(timeline: Timeline, start: float) -> None:
        time = timeline.time - start
        timeline.heading += degrees * ease(time, 0.02, end)
        timeline.channels["head_yaw"] += SIGN[side] * min(24.0, 0.35 * angle_deg) * bump(time, -0.15, 0.75 * end)
        timeline.channels["lift"] -= 0.014 * (ease(time, 0, 0.4) - ease(time, end - 0.1, end + 0.3))
        for i in range(steps):
            lift = start + LEAD + i * beat
            foot = side if i % 2 == 0 else OTHER[side]
            timeline.steps.append(Step(foot, lift, lift + swing, 0.085, 14, 12, 0))

    return Segment({"action": "turn", "side": side, "angle_deg": angle_deg, "speed": speed}, end + 0.25, write)

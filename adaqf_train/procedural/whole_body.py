"""Actions of the whole body: bowing, jumping, kicking, crouching, sitting, balancing, standing still."""

from __future__ import annotations

import numpy as np

from adaqf_train.procedural.arms import PACE, strokes
from adaqf_train.procedural.body import LEG_LENGTH, OTHER, SIDES, SIGN
from adaqf_train.procedural.timeline import ANKLE_BEHIND, Segment, Step, Style, Timeline, add_moves, bump, ease, hermite

GRAVITY = 9.81  # metres per second squared
BOW = {"slight": (24, 32), "deep": (72, 84)}  # degrees the trunk leans forward
CROUCH = {"slight": (0.17, 0.22), "deep": (0.40, 0.47)}  # metres the pelvis sinks
HOP = {"low": (0.11, 0.15), "high": (0.30, 0.36)}  # metres the body rises in flight
LEAP = {"low": (0.38, 0.5), "high": (0.62, 0.8)}  # metres a forward jump covers
KICK = {"low": (38, 44), "high": (72, 80)}  # degrees of the leg from the vertical at the end of a kick
COCKED = 0.22  # metres the ankle rises before and after a kick
SEAT = 0.43  # metres the pelvis sinks onto a seat of chair height
SEAT_BACK = 0.40


def bow(style: Style, rng: np.random.Generator, amplitude: str, speed: str, count: int) -> Segment:
    """Bow and straighten up, `count` times."""
    pace = PACE[speed] * style.tempo * (1.0 if amplitude == "slight" else 1.12)
    keys = strokes(0.58 * pace, 0.08 + 0.1 * pace, 0.58 * pace, 0.1, count)
    lean = float(rng.uniform(*BOW[amplitude])) - style.posture

    def write(timeline: Timeline, start: float) -> None:
        timeline.move(start, keys, pelvis_pitch=0.5 * lean, spine_pitch=0.5 * lean, head_pitch=0.14 * lean)
        timeline.move(start, keys, shift_forward=-0.0019 * lean, lift=-0.0004 * lean)  # back for balance

    return Segment({"action": "bow", "amplitude": amplitude, "speed": speed, "count": count}, keys[-1][0], write)


def crouch(style: Style, rng: np.random.Generator, amplitude: str, speed: str, count: int) -> Segment:
    """Bend the knees with flat feet and stand up, `count` times."""
    pace = PACE[speed] * style.tempo * (0.85 if amplitude == "slight" else 1.0)
    keys = strokes(0.62 * pace, 0.05 + 0.1 * pace, 0.6 * pace, 0.08, count)
    depth = float(rng.uniform(*CROUCH[amplitude]))

    def write(timeline: Timeline, start: float) -> None:
        timeline.move(start, keys, lift=-depth, shift_forward=-0.32 * depth)
        timeline.move(start, keys, pelvis_pitch=50 * depth, spine_pitch=38 * depth, head_pitch=-55 * depth)
        for side in SIDES:
            timeline.move(start, keys, **{f"{side}_swing": 75 * depth, f"{side}_elbow": 40 * depth})

    return Segment({"action": "crouch", "amplitude": amplitude, "speed": speed, "count": count}, keys[-1][0], write)


def sit(style: Style, rng: np.random.Generator, action: str, speed: str) -> Segment:
    """Sit down and stay ("sit"), begin seated and stand up ("stand_up"), or do both ("sit_stand")."""
    pace = PACE[speed] * style.tempo
    down, stay = 0.72 * pace + 0.18, 0.45 + 0.2 * pace
    depth, back = SEAT + float(rng.uniform(-0.03, 0.03)), SEAT_BACK + float(rng.uniform(-0.03, 0.02))
    seated = {
        "sit": [(0.0, 0.0), (down, 1.0)],
        "stand_up": [(0.1, 1.0), (100.0, 1.0), (100.0 + down, 0.0)],
        "sit_stand": [(0.0, 0.0), (down, 1.0), (down + stay, 1.0), (2 * down + stay, 0.0)],
    }[action]

    def write(timeline: Timeline, start: float) -> None:
        begin = start - 100.0 if action == "stand_up" else start
        timeline.move(begin, seated, lift=-depth, shift_forward=-back)
        level = np.zeros_like(timeline.time)
        add_moves(level, timeline.time, begin, seated)
        passing = 4 * level * (1 - level)  # the trunk leans forward in transit, upright at both ends
        timeline.channels["pelvis_pitch"] += 24 * passing - 4 * level
        timeline.channels["spine_pitch"] += 14 * passing + 6 * level
        timeline.channels["head_pitch"] -= 20 * passing
        for side in SIDES:
            timeline.channels[f"{side}_swing"] += 10 * passing + 22 * level
            timeline.channels[f"{side}_elbow"] += 36 * level
            timeline.channels[f"{side}_twist"] -= 8 * level

    length = {"sit": down, "stand_up": down, "sit_stand": 2 * down + stay}[action]
    return Segment({"action": action, "speed": speed}, length, write)


def jump(style: Style, rng: np.random.Generator, direction: str, amplitude: str, count: int) -> Segment:
    """Dip, take off with both feet and land on bent knees, `count` times, on the spot ("up") or "forward"."""
    apex = float(rng.uniform(*HOP[amplitude]))
    flight = np.sqrt(8 * apex / GRAVITY)
    takeoff = GRAVITY * flight / 2
    dip = 0.10 + 0.5 * apex
    prepare, push, land, rise = 0.34, 0.20, 0.17, 0.30
    cycle = prepare + push + flight + land + rise
    distance = float(rng.uniform(*LEAP[amplitude])) if direction == "forward" else 0.0
    facts = {"action": "jump", "direction": direction, "amplitude": amplitude, "count": count}

    def write(timeline: Timeline, start: float) -> None:
        for i in range(count):
            begin = start + i * cycle
            time = timeline.time - begin
            off, down = prepare + push, prepare + push + flight
            toes = 0.072  # metres the ankles rise over the toes at take-off
            before = [(0, 0, 0), (prepare, -dip, 0), (off, toes, takeoff)]
            after = [(down, toes, -takeoff), (down + land, -0.85 * dip, 0), (cycle, 0, 0)]
            height = np.where(time < off, hermite(time, before), hermite(time, after))
            fall = toes + takeoff * (time - off) - GRAVITY / 2 * (time - off) ** 2
            timeline.channels["lift"] += np.where((time >= off) & (time < down), fall, height)
            moving = ease(time, off - 0.24, off + 0.02) - ease(time, down - 0.02, down + 0.3)
            timeline.velocity[:, 0] += moving * distance / (flight + 0.31)
            for side in SIDES:
                timeline.steps.append(Step(side, begin + off, begin + down, 0.94 * apex, 38, 42, 22, flight=True))
            _swing_arms(timeline, time, dip, off, down, cycle)

    return Segment(facts, count * cycle, write)


def _swing_arms(timeline: Timeline, time: np.ndarray, dip: float, off: float, down: float, cycle: float) -> None:
    """Swing the arms back with the dip, up at take-off and down after landing; fold the trunk with the knees."""
    low = ease(time, 0, off - 0.2) - ease(time, off - 0.2, off + 0.04)
    soft = ease(time, down - 0.05, down + 0.17) - ease(time, down + 0.17, cycle)
    high = ease(time, off - 0.2, off + 0.12) - ease(time, down - 0.1, down + 0.38)
    timeline.channels["pelvis_pitch"] += 95 * dip * low + 75 * dip * soft
    timeline.channels["spine_pitch"] += 50 * dip * low + 40 * dip * soft
    timeline.channels["head_pitch"] -= 75 * dip * low + 55 * dip * soft
    timeline.channels["shift_forward"] -= 0.35 * dip * (low + soft)
    for side in SIDES:
        timeline.channels[f"{side}_swing"] += -140 * dip * low + 230 * dip * high
        timeline.channels[f"{side}_elbow"] += 40 * dip * low + 150 * dip * high
        timeline.channels[f"{side}_abduct"] += 40 * dip * high


def _shift_onto(timeline: Timeline, start: float, side: str, shift: float, end: float) -> None:
    """Move the body over the foot of `side` in `shift` seconds, and back in the last ones before `end`."""
    keys, sign = [(0, 0), (shift, 1), (end - shift, 1), (end, 0)], SIGN[side]
    half = sign * 0.85 * timeline.style.half_width
    timeline.move(start, keys, shift_left=half, pelvis_roll=sign * 3.0, spine_roll=sign * -1.0)


def kick(style: Style, rng: np.random.Generator, side: str, amplitude: str, speed: str, count: int) -> Segment:
    """Shift onto the other leg, then cock the knee, kick forward and put the foot down, `count` times."""
    pace = PACE[speed] * style.tempo
    cock, strike, hold, shift = 0.16 + 0.16 * pace, 0.14 + 0.16 * pace, 0.05, 0.34
    fold, set_down = 0.14 + 0.16 * pace, 0.16 + 0.16 * pace
    cycle = cock + strike + hold + fold + set_down + 0.08
    leg = float(rng.uniform(*KICK[amplitude]))
    # Metres forward and up that the ankle of an almost straight leg moves, whose hip is 0.975 legs above the ankle.
    length, angle = 0.97 * LEG_LENGTH["right"], np.radians(leg)
    far = float(length * np.sin(angle)) + ANKLE_BEHIND
    high = float(0.975 * LEG_LENGTH["right"] - length * np.cos(angle))
    facts = {"action": "kick", "side": side, "direction": "forward", "amplitude": amplitude}
    facts |= {"speed": speed, "count": count}
    end = 2 * shift + count * cycle

    def write(timeline: Timeline, start: float) -> None:
        _shift_onto(timeline, start, OTHER[side], shift, end)
        out, back = cock + strike, cock + strike + hold + fold
        down = back + set_down
        for i in range(count):
            at = start + shift + i * cycle
            rise = [(0, 0), (cock, COCKED), (out, high), (out + hold, high), (back, COCKED), (down, 0)]
            ahead = [(0.4 * cock, 0), (cock, -0.05), (out, far), (out + hold, far), (back, 0)]
            point = [(0.4 * cock, 0), (cock, 22), (out, 28 - leg), (out + hold, 28 - leg), (back, 0)]
            for channel, keys in (("rise", rise), ("ahead", ahead), ("point", point)):
                timeline.move(at, keys, **{f"{side}_{channel}": 1.0})
            kicking = [(0, 0), (cock, 0.15), (out, 1), (out + hold, 1), (down, 0)]
            timeline.move(at, kicking, pelvis_pitch=-0.10 * leg, spine_pitch=0.02 * leg, head_pitch=0.08 * leg)
            timeline.move(
                at, kicking, lift=-0.02, left_abduct=16.0, right_abduct=16.0, left_elbow=18.0, right_elbow=18.0
            )
            timeline.move(at, kicking, **{f"{OTHER[side]}_swing": 0.4 * leg, f"{side}_swing": -0.25 * leg})

    return Segment(facts, end, write)


def one_leg(style: Style, rng: np.random.Generator, side: str, speed: str) -> Segment:
    """Lift the foot of `side`, balance on the other leg and put the foot down."""
    pace = PACE[speed] * style.tempo
    shift, up, stay = 0.4, 0.2 + 0.45 * pace, float(rng.uniform(1.1, 1.6))
    lift = [(0.0, 0.0), (up, 1.0), (up + stay, 1.0), (2 * up + stay, 0.0)]
    end = 2 * shift + lift[-1][0]
    rise, far = float(rng.uniform(0.24, 0.32)), float(rng.uniform(0.2, 0.28))

    def write(timeline: Timeline, start: float) -> None:
        at = start + shift
        _shift_onto(timeline, start, OTHER[side], shift, end)
        ahead = [(0.3 * up, 0.0), (up, 1.0), (up + stay, 1.0), (1.7 * up + stay, 0.0)]
        timeline.move(at, lift, **{f"{side}_rise": rise})
        timeline.move(at, ahead, **{f"{side}_ahead": far, f"{side}_point": 26.0})
        wobble = bump(timeline.time, at + 0.3, at + lift[-1][0] - 0.2) * np.sin(5.2 * (timeline.time - at))
        timeline.channels["spine_roll"] += 1.6 * wobble
        timeline.channels["shift_left"] += 0.006 * wobble
        for arm in SIDES:
            timeline.move(at, lift, **{f"{arm}_abduct": 24.0, f"{arm}_elbow": 12.0})
            timeline.channels[f"{arm}_abduct"] += 3.0 * SIGN[arm] * wobble

    return Segment({"action": "one_leg", "side": side, "speed": speed}, end, write)


def idle(style: Style, rng: np.random.Generator) -> Segment:
    """Stand still, breathe, and shift the weight from one leg to the other."""
    amount = float(rng.uniform(0.015, 0.03)) * float(rng.choice((-1, 1)))

    def write(timeline: Timeline, start: float) -> None:
        keys = [(0.4, 0.0), (1.5, 1.0), (2.6, 1.0), (3.6, 0.0)]
        timeline.move(start, keys, shift_left=amount, pelvis_roll=60 * amount, spine_roll=-60 * amount)

    return Segment({"action": "idle"}, 2.4, write)

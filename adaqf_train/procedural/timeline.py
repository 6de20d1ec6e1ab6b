"""The timeline of a clip: actions add keyframes, steps and leg movements to it, and it computes the joints.

Every action starts and ends in the same neutral stand and *adds* its deviations from it. Actions therefore follow one
another without seams, and one may fade in while another fades out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.procedural.body import (
    ANKLE_HEIGHT,
    CHANNELS,
    FLAT_PITCH,
    FREE_CHANNELS,
    JOINT,
    LENGTH,
    SIDES,
    SIGN,
    FootTrack,
    facing,
    solve,
)

FPS = HUMANML3D.fps
ANKLE_BEHIND = 0.045  # metres an ankle stands behind the pelvis
REST = 0.7  # seconds after the last step at which a walker counts as standing
Keys = Sequence[tuple[float, float]]


def _within(low: float, high: float) -> float:
    return field(metadata={"bounds": (low, high)})


@dataclass(frozen=True)
class Style:
    """The traits in which two people differ who do the same thing."""

    half_width: float = _within(0.085, 0.11)  # metres between a foot and the midline
    turn_out: float = _within(4, 10)  # degrees the feet point outward
    posture: float = _within(-1, 4)  # degrees of forward lean of the trunk
    arm_gain: float = _within(0.75, 1.25)  # of the arm swing
    elbow: float = _within(12, 26)  # degrees of bend of a hanging arm
    abduct: float = _within(7, 12)  # degrees a hanging arm stands off
    stride: float = _within(0.94, 1.06)  # factor on step length
    tempo: float = _within(0.96, 1.04)  # factor on durations
    breath: float = _within(2.8, 4.2)  # seconds per breath
    phase: float = _within(0, 2 * np.pi)  # of breath and sway, radians
    sway: float = _within(0.004, 0.011)  # metres of idle weight shift

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Style:
        """Draw every trait uniformly within its bounds."""
        return cls(*(rng.uniform(*trait.metadata["bounds"]) for trait in fields(cls)))


@dataclass(frozen=True)
class Step:
    """A step: one foot leaves the floor at `lift` and touches it again at `land` (seconds)."""

    side: str
    lift: float
    land: float
    clearance: float  # metres the toe rises
    toe_off: float = 30.0  # degrees of heel rise when the toe leaves
    swing_pitch: float = 15.0  # degrees of heel rise in early swing
    landing: float = -14.0  # degrees at touch-down: negative lands on the heel, positive on the ball
    spread: float = 0.0  # metres of extra width of the plant
    flight: bool = False  # a jump: both feet follow the parabola of free fall


@dataclass(frozen=True)
class Segment:
    """An action: its facts, its duration in seconds, and the function that writes it on a timeline."""

    facts: dict
    duration: float
    write: Callable[[Timeline, float], None]


def ease(time: np.ndarray | float, start: float, end: float) -> np.ndarray:
    """Minimum-jerk ramp from 0 at `start` to 1 at `end`: the velocity profile of a human reach (Flash & Hogan 1985)."""
    u = np.clip((np.asarray(time) - start) / max(end - start, 1e-6), 0, 1)
    return u**3 * (10 - 15 * u + 6 * u * u)


def bump(time: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 -> 1 -> 0 between start and end, smooth at both."""
    return np.sin(np.pi * np.clip((time - start) / (end - start), 0, 1)) ** 2


def add_moves(track: np.ndarray, time: np.ndarray, start: float, keys: Keys) -> None:
    """Add minimum-jerk moves between (seconds after start, value) keys to a track; it is 0 before the first key."""
    previous = (0.0, 0.0)
    for at, value in keys:
        track += (value - previous[1]) * ease(time, start + previous[0], start + at)
        previous = (at, value)


def hermite(time: np.ndarray, knots: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Cubic through (time, value, slope) knots; constant beyond both ends."""
    at, value, slope = (np.array(column) for column in zip(*knots, strict=True))
    clipped = np.clip(time, at[0], at[-1])
    i = np.clip(np.searchsorted(at, clipped, side="right") - 1, 0, len(at) - 2)
    h = at[i + 1] - at[i]
    u = (clipped - at[i]) / h
    return (
        (1 + 2 * u) * (1 - u) ** 2 * value[i]
        + u * (1 - u) ** 2 * h * slope[i]
        + u * u * (3 - 2 * u) * value[i + 1]
        + u * u * (u - 1) * h * slope[i + 1]
    )


def monotone(time: np.ndarray, keys: Keys) -> np.ndarray:
    """Cubic through (time, value) keys that never overshoots (Fritsch & Carlson's harmonic slopes)."""
    at, value = (np.array(column, dtype=float) for column in zip(*keys, strict=True))
    secant = np.diff(value) / np.diff(at)
    slope = np.zeros_like(value)
    same = secant[:-1] * secant[1:] > 0
    slope[1:-1][same] = 2 * secant[:-1][same] * secant[1:][same] / (secant[:-1] + secant[1:])[same]
    return hermite(time, list(zip(at, value, slope, strict=True)))


class Timeline:
    """Channels over `frames` frames, to which actions add; `to_joints` solves them for the joints."""

    def __init__(self, frames: int, style: Style):
        self.style = style
        self.time = np.arange(frames) / FPS
        self.channels = {name: np.zeros(frames) for name in (*CHANNELS, *FREE_CHANNELS)}
        self.velocity = np.zeros((frames, 2))  # metres per second forward and to the left, in the heading frame
        self.heading = np.zeros(frames)  # degrees
        self.arm_coupling = np.ones(frames)  # gain of the arm swing on the legs' stride
        self.steps: list[Step] = []
        self._stand()

    def _stand(self) -> None:
        """The neutral stand, breathing and swaying a little."""
        style, breath = self.style, np.sin(2 * np.pi * self.time / self.style.breath + self.style.phase)
        slow = np.sin(2 * np.pi * self.time / (1.7 * self.style.breath) + 2 * self.style.phase)
        self.channels["spine_pitch"] += style.posture + 0.8 * breath
        self.channels["head_pitch"] -= style.posture + 0.5 * breath
        self.channels["shift_left"] += style.sway * slow
        self.channels["shift_forward"] += 0.4 * style.sway * breath
        self.channels["pelvis_roll"] += 60 * style.sway * slow
        self.channels["spine_roll"] -= 60 * style.sway * slow
        for side in SIDES:
            self.channels[f"{side}_swing"] += 1 + 0.7 * breath
            self.channels[f"{side}_abduct"] += style.abduct + 0.6 * breath
            self.channels[f"{side}_twist"] -= 18
            self.channels[f"{side}_elbow"] += style.elbow + 1.5 * slow
            self.channels[f"{side}_shrug"] += 1.2 * breath

    def move(self, start: float, keys: Keys, **gains: float) -> None:
        """Add moves between (seconds after start, level) keys to channels, to each with its gain times the levels."""
        for channel, gain in gains.items():
            add_moves(self.channels[channel], self.time, start, [(at, gain * level) for at, level in keys])

    def to_joints(self) -> np.ndarray:
        """Joints (T, 22, 3), metres, Y up; frame 0 stands over the origin with the shoulders square to +Z."""
        forward, left = facing(self.heading)
        velocity = self.velocity[:, :1] * forward + self.velocity[:, 1:] * left
        middle = 0.5 * (velocity[1:] + velocity[:-1]) / FPS
        path = np.concatenate((np.zeros((1, 2)), np.cumsum(middle[:, (0, 2)], axis=0)))
        feet = {side: self._foot(side, path) for side in SIDES}
        self._couple(path, feet)
        joints = solve(self.channels, path, self.heading, feet)
        across = joints[0, JOINT["left_shoulder"]] - joints[0, JOINT["right_shoulder"]]
        angle = np.arctan2(across[2], across[0])
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array(((cos, 0, sin), (0, 1, 0), (-sin, 0, cos)))
        return (joints - joints[0, 0] * np.array((1, 0, 1))) @ turn.T

    def _foot(self, side: str, path: np.ndarray) -> FootTrack:
        """Plant the foot beside the body of each mid-stance, and swing it from plant to plant."""
        steps = sorted((step for step in self.steps if step.side == side), key=lambda step: step.lift)
        ends = [*(step.lift for step in steps[1:]), np.inf][: len(steps)]
        plants = [self._plant(side, 0.0, 0.0, path)]
        for step, end in zip(steps, ends, strict=True):
            plants.append(self._plant(side, step.land + min((end - step.land) / 2, REST), step.spread, path))
        place = np.tile(plants[0], (len(self.time), 1))  # columns x, z, yaw of a flat ankle
        height = np.zeros(len(self.time))
        for step, (start, stop) in zip(steps, itertools.pairwise(plants), strict=True):
            u = np.clip((self.time - step.lift) / (step.land - step.lift), 0, 1)
            travel = u if step.flight else 0.5 * (u * u * (3 - 2 * u) + ease(u, 0, 1))
            later = u > 0
            place[later] = (start + travel[:, None] * (stop - start))[later]
            # Of peak 1. A toe that steps rises early and falls late, so it never travels close to the floor.
            height += step.clearance * (4 * u * (1 - u) if step.flight else u**0.7 * (1 - u) ** 0.9 / 0.334)
        return self._place(side, place, height, self._roll(steps))

    def _plant(self, side: str, when: float, spread: float, path: np.ndarray) -> np.ndarray:
        """x, z and yaw of the flat foot's ankle beside the body at time `when`."""
        yaw = np.interp(when, self.time, self.heading)
        forward, left = facing(yaw)
        offset = SIGN[side] * (self.style.half_width + spread) * left - ANKLE_BEHIND * forward
        body = [np.interp(when, self.time, path[:, axis]) for axis in (0, 1)]
        return np.array((body[0] + offset[0], body[1] + offset[2], yaw + SIGN[side] * self.style.turn_out))

    def _roll(self, steps: list[Step]) -> np.ndarray:
        """Pitch (T,) of the foot relative to flat: heel rise before toe-off, toes up at heel strike, flat between."""
        if not steps:
            return np.zeros(len(self.time))
        keys, flat = [(-10.0, 0.0)], -9.0
        for i, step in enumerate(steps):
            swing = step.land - step.lift
            next_lift = steps[i + 1].lift if i + 1 < len(steps) else np.inf
            rise = max(flat + 0.01, step.lift - min(0.28, 0.9 * swing))
            keys += [(rise, 0.0), (step.lift, step.toe_off), (step.lift + 0.35 * swing, step.swing_pitch)]
            flat = step.land + min(0.12, (next_lift - step.land) / 3)
            keys += [(step.land, step.landing), (flat, 0.0)]
        return monotone(self.time, keys)

    def _place(self, side: str, place: np.ndarray, height: np.ndarray, roll: np.ndarray) -> FootTrack:
        """The track of a foot that pivots on its toe while the heel is up, and on its heel while the toe is up."""
        length, flat = LENGTH[JOINT[f"{side}_foot"]], FLAT_PITCH[side]
        pitch = np.radians(flat + roll)
        ahead, rise, point = (self.channels[f"{side}_{free}"] for free in ("ahead", "rise", "point"))
        ankle = np.stack((place[:, 0], ANKLE_HEIGHT + height + rise, place[:, 1]), -1)
        ankle += ahead[:, None] * facing(self.heading)[0]
        heel_up = roll > 0
        forward, _ = facing(place[:, 2])
        ankle += (heel_up * length * (np.cos(np.radians(flat)) - np.cos(pitch)))[:, None] * forward
        ankle[:, 1] += heel_up * length * (np.sin(pitch) - np.sin(np.radians(flat)))
        return FootTrack(ankle=ankle, yaw=place[:, 2], pitch=flat + roll + point, free=rise > 0.02)

    def _couple(self, path: np.ndarray, feet: dict[str, FootTrack]) -> None:
        """Move the rest of the body with the legs: sway, roll, pelvic rotation, counter-rotation, arm swing."""
        channels, (forward, _) = self.channels, facing(self.heading)
        for step in self.steps:
            if not step.flight:
                away = -SIGN[step.side] * bump(self.time, step.lift - 0.12, step.land + 0.12)
                channels["shift_left"] += 0.022 * away
                channels["pelvis_roll"] += 2.2 * away  # the hip of the swinging leg drops
                channels["spine_roll"] -= 2.0 * away
        apart = np.einsum("tk,tk->t", feet["left"].ankle - feet["right"].ankle, forward)  # left foot ahead, metres
        apart -= channels["left_ahead"] - channels["right_ahead"]  # kicks have their own arm movement
        apart = np.clip(apart, -0.9, 0.9)
        channels["pelvis_yaw"] -= 7 * apart
        channels["spine_yaw"] += 11 * apart
        channels["head_yaw"] -= 6 * apart
        for side in SIDES:
            swing = -SIGN[side] * 42 * self.style.arm_gain * self.arm_coupling * apart
            channels[f"{side}_swing"] += swing
            channels[f"{side}_elbow"] += 0.45 * np.maximum(swing, -10) + 4.5 * np.abs(apart)
            # Arms hang: they follow a bowing trunk only in part, and not at all once raised.
            trunk = np.maximum(channels["pelvis_pitch"] + channels["spine_pitch"], 0)
            hanging = 1 - ease(np.maximum(channels[f"{side}_swing"], channels[f"{side}_abduct"]), 25, 90)
            channels[f"{side}_swing"] += 0.8 * trunk * hanging

"""Where a body goes: travel relative to its heading, turns, steps."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.signals import FPS, LANDING, Event, J, flights

MOVING = 0.13  # metres per second, below which a body stands
LEAST_TRAVEL = 0.1  # metres that both feet together cover; shifts of weight stay below
SETTLING = 4  # frames that a foot needs to follow the body
SWERVE = 0.8  # seconds; a diagonal walk swerves with every step
LEAST_TURN = 20.0  # degrees; the sway of a gait stays below
STEP_SWING = 0.15  # metres by which one foot overtakes the other
AXES = {"forward": 0, "backward": 0, "left": 1, "right": 1}


def turns(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect turns of at least LEAST_TURN in one sense, without their first and last 5 per cent."""
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


def travels(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """Detect stretches of travel in one direction relative to the heading."""
    moving = signals.velocity(joints)
    ahead, left = moving.T
    straight, aside = np.where(ahead < 0, "backward", "forward"), np.where(left < 0, "right", "left")
    label = np.where(np.abs(left) > 1.5 * np.abs(ahead), aside, straight)
    label[np.hypot(ahead, left) < MOVING] = ""
    if "jump" in kinds:
        for start, end in flights(joints):
            label[max(start - int(LANDING * FPS), 0) : end + int(LANDING * FPS) + 1] = ""
    label = _without_swerves(label)
    return [
        _travel(joints, moving, start, stop - 1, direction if axis == 0 else "sideways")
        for direction, axis in AXES.items()
        for start, stop in signals.runs(label == direction)
        if _distance_of_feet(joints, start, stop - 1, axis) > LEAST_TRAVEL
    ]


def _without_swerves(label: np.ndarray) -> np.ndarray:
    """Give a short swerve between two stretches of one direction that direction."""
    label = label.copy()
    bounds = [0, *(np.flatnonzero(label[1:] != label[:-1]) + 1).tolist(), len(label)]
    pieces = list(itertools.pairwise(bounds))
    for (before, _), (start, stop), (after, _) in zip(pieces, pieces[1:], pieces[2:], strict=False):
        if "" not in (label[before], label[start]) and label[before] == label[after] and stop - start < SWERVE * FPS:
            label[start:stop] = label[before]
    return label


def _distance_of_feet(joints: np.ndarray, start: int, end: int, axis: int) -> float:
    """Metres that both feet together cover along an axis: 0 forward or backward, 1 sideways."""
    feet = joints[:, [J["left_ankle"], J["right_ankle"]]].mean(1)
    moved = feet[min(end + SETTLING, len(feet) - 1)] - feet[max(start - SETTLING, 0)]
    return abs(float(moved @ signals.axes(joints)[axis][(start + end) // 2]))


def _travel(joints: np.ndarray, moving: np.ndarray, start: int, end: int, direction: str) -> Event:
    path = joints[:, J["pelvis"]][:, (0, 2)]
    quarter = (end - start) // 4
    middle = moving[start + quarter : end - quarter + 1]
    return Event(
        "travel",
        start,
        end,
        side="left" if moving[start : end + 1, 1].sum() > 0 else "right",
        direction=direction,
        count=_steps(joints, start, end),
        distance=float(np.linalg.norm(path[end] - path[start])),
        speed=float(np.median(np.hypot(*middle.T))),
    )


def _steps(joints: np.ndarray, start: int, end: int) -> int:
    """Count how often one foot overtakes the other between two frames."""
    left, right = (signals.ahead(joints, f"{side}_ankle", "pelvis") for side in signals.SIDES)
    return len(signals.turning_points(signals.smooth(left - right, 3)[start : end + 1], STEP_SWING)) - 1

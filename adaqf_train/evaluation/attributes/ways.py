"""Where a body goes: travel against its facing, turns, steps."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np

from adaqf_train.evaluation.attributes import signals
from adaqf_train.evaluation.attributes.event import LANDING, Event, flights
from adaqf_train.evaluation.attributes.signals import FPS, J

MOVING = 0.13  # metres per second below which a body stands
LEAST_WAY = 0.1  # metres both feet together come along; shifts of weight stay below
SETTLING = 4  # frames a foot needs to follow the body
SWERVE = 0.8  # seconds; a diagonal walk swerves with every step
LEAST_TURN = 20.0  # degrees; the sway of a gait stays below
STEP_SWING = 0.15  # metres one foot overtakes the other by


def turns(joints: np.ndarray, kinds: Collection[str]) -> list[Event]:
    """An event a turn of at least LEAST_TURN in one sense, from its first 5 to its last 5 per cent."""
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
    """An event a stretch of travel in one direction against the facing."""
    moving = signals.velocity(joints)
    pace = np.hypot(*moving.T)
    label = np.where(pace < MOVING, 0, np.where(np.abs(moving[:, 1]) > 1.5 * np.abs(moving[:, 0]), 3, 1))
    label = np.where((label == 1) & (moving[:, 0] < 0), 2, label)
    label = np.where((label == 3) & (moving[:, 1] < 0), 4, label)
    if "jump" in kinds:
        for start, end in flights(joints):
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

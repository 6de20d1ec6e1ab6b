"""From anybody's joints, by their names, to the 22 of HumanML3D.

A map gives each standard joint the name of a joint, or [a, b, share]: the point that lies that share of the way
from joint a to joint b. Presets are such maps; users write them as JSON.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adaqf_train.motion.skeleton import HUMANML3D

Point = str | tuple[str, str, float]
JointMap = Mapping[str, Point]


class MappingError(ValueError):
    """A skeleton that no map fits, or a map that is wrong; the message says what to do."""


def _both_sides(middle: JointMap, left: JointMap, sides: tuple[str, str] = ("Left", "Right")) -> JointMap:
    """A map from its middle and its left half, in whose joints the word for left becomes that for right."""

    def other(point: Point) -> Point:
        if isinstance(point, str):
            return point.replace(*sides)
        return other(point[0]), other(point[1]), point[2]

    right = {joint.replace("left", "right"): other(point) for joint, point in left.items()}
    every = {**middle, **left, **right}
    return {joint: every[joint] for joint in HUMANML3D.joints}


_ARM = {"left_shoulder": "LeftArm", "left_elbow": "LeftForeArm", "left_wrist": "LeftHand"}
_LEG = {"left_hip": "LeftUpLeg", "left_knee": "LeftLeg", "left_ankle": "LeftFoot"}
_BACK = {"pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head"}

PRESETS: Mapping[str, JointMap] = {
    "humanml3d": {joint: joint for joint in HUMANML3D.joints},  # what this package exports
    # In CMU's skeleton LowerBack lies on Hips, Neck and LeftShoulder lie on Spine1: points that differ stand in.
    "cmu": _both_sides(
        {**_BACK, "spine3": ("Spine1", "Neck1", 0.25), "neck": "Neck1"},
        {**_LEG, "left_foot": "LeftToeBase", "left_collar": ("Neck1", "LeftArm", 0.3), **_ARM},
    ),
    "mixamo": _both_sides(_BACK, {**_LEG, "left_foot": "LeftToeBase", "left_collar": "LeftShoulder", **_ARM}),
    "lafan1": _both_sides(_BACK, {**_LEG, "left_foot": "LeftToe", "left_collar": "LeftShoulder", **_ARM}),
    "bandai-namco": _both_sides(
        {
            "pelvis": "Hips",
            "spine1": "Spine",
            "spine2": "Chest",
            "spine3": ("Chest", "Neck", 0.25),
            "neck": "Neck",
            "head": "Head",
        },
        {
            "left_hip": "UpperLeg_L",
            "left_knee": "LowerLeg_L",
            "left_ankle": "Foot_L",
            "left_foot": "Toes_L",
            "left_collar": "Shoulder_L",
            "left_shoulder": "UpperArm_L",
            "left_elbow": "LowerArm_L",
            "left_wrist": "Hand_L",
        },
        sides=("_L", "_R"),
    ),
}


def recognise(names: Sequence[str]) -> str:
    """The preset all of whose joints are among `names`; of several, the one that names the most joints.

    Raises MappingError with the skeleton's joints and how to write a map.
    """
    known = set(_plain(names)) | set(names)
    complete = [preset for preset, points in PRESETS.items() if _joints_of(points) <= known]
    if not complete:
        raise MappingError(
            f"no preset ({', '.join(PRESETS)}) fits its joints: {', '.join(names)}. Write a JSON file "
            f'{{"pelvis": "{names[0]}", "spine3": ["Chest", "Neck", 0.25], …}} that gives each of '
            f"{', '.join(HUMANML3D.joints)} a joint, or a point on the way from one to another, and name it with --map."
        )
    return max(complete, key=lambda preset: len(_joints_of(PRESETS[preset])))


def checked(content: object) -> JointMap:
    """A user's map, as it comes out of JSON. MappingError where it is none."""
    if not isinstance(content, dict):
        raise MappingError(f"holds a {type(content).__name__}, expected an object: standard joint -> joint.")
    for name in content:
        if name not in HUMANML3D.joints:
            near = difflib.get_close_matches(name, HUMANML3D.joints, 1, cutoff=0)
            raise MappingError(f"no standard joint is called {name!r}. The nearest one is {near[0]!r}.")
    missing = [joint for joint in HUMANML3D.joints if joint not in content]
    if missing:
        raise MappingError(f"no joint is given for {', '.join(missing)}. Add them.")
    return {joint: _point(joint, point) for joint, point in content.items()}


def weights(names: Sequence[str], points: JointMap) -> Tensor:
    """The map as a matrix (22, J) that joint positions (..., J, 3) are multiplied by, float64.

    names: the skeleton's joints; those of the map may leave out a prefix that all share ("mixamorig:"). Raises
    MappingError for a joint the skeleton does not have.
    """
    index = {name: joint for joint, name in enumerate(_plain(names))} | {name: j for j, name in enumerate(names)}
    matrix = torch.zeros(len(HUMANML3D), len(names), dtype=torch.float64)
    for row, joint in enumerate(HUMANML3D.joints):
        point = points[joint]
        for name, share in ((point, 1.0),) if isinstance(point, str) else _shares(point):
            if name not in index:
                raise MappingError(
                    f"the map gives {joint} the joint {name!r}, which is not among {', '.join(names)}. Change --map."
                )
            matrix[row, index[name]] += share
    return matrix


def _point(joint: str, value: object) -> Point:
    if isinstance(value, str) and value:
        return value
    match value:
        case [str(a), str(b), int() | float() as share] if not isinstance(share, bool) and math.isfinite(share):
            return a, b, float(share)
    raise MappingError(
        f'{joint} is given {value!r}, expected a joint\'s name or a point such as ["Chest", "Neck", 0.25].'
    )


def _shares(point: tuple[str, str, float]) -> tuple[tuple[str, float], ...]:
    a, b, share = point
    return (a, 1 - share), (b, share)


def _joints_of(points: JointMap) -> set[str]:
    return {name for point in points.values() for name in ((point,) if isinstance(point, str) else point[:2])}


def _plain(names: Sequence[str]) -> list[str]:
    """Names without a namespace ("mixamorig:") and without a prefix that all share ("Character1_")."""
    plain = [name.rpartition(":")[2] for name in names]
    root, underscore, _ = plain[0].rpartition("_")
    if all(name.startswith(root + underscore) for name in plain):
        plain = [name.removeprefix(root + underscore) for name in plain]
    # Two bodies in one file would have the same names: those keep theirs whole.
    return plain if len(set(plain)) == len(plain) else list(names)

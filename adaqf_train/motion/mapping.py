"""Map the joints of any skeleton to the 22 of HumanML3D by their names, and those to KIT-ML's 21.

A map gives for each standard joint the name of a joint, or [a, b, share]: the point at that share of the way from
joint a to joint b. The presets are such maps, and users write their own as JSON.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import HUMANML3D, KIT

Point = str | tuple[str, str, float]
JointMap = Mapping[str, Point]


def _both_sides(middle: JointMap, left: JointMap, sides: tuple[str, str] = ("Left", "Right")) -> JointMap:
    """A map from its middle and its left half; `sides` are the words for left and right in its joint names."""

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
_BANDAI_ARM = {"left_shoulder": "UpperArm_L", "left_elbow": "LowerArm_L", "left_wrist": "Hand_L"}
_BANDAI_LEG = {"left_hip": "UpperLeg_L", "left_knee": "LowerLeg_L", "left_ankle": "Foot_L", "left_foot": "Toes_L"}

PRESETS: Mapping[str, JointMap] = {
    "humanml3d": {joint: joint for joint in HUMANML3D.joints},  # the files that this package exports
    # CMU's LowerBack coincides with Hips, its Neck and LeftShoulder with Spine1; other points replace them.
    "cmu": _both_sides(
        {**_BACK, "spine3": ("Spine1", "Neck1", 0.25), "neck": "Neck1"},
        {**_LEG, "left_foot": "LeftToeBase", "left_collar": ("Neck1", "LeftArm", 0.3), **_ARM},
    ),
    "mixamo": _both_sides(_BACK, {**_LEG, "left_foot": "LeftToeBase", "left_collar": "LeftShoulder", **_ARM}),
    "lafan1": _both_sides(_BACK, {**_LEG, "left_foot": "LeftToe", "left_collar": "LeftShoulder", **_ARM}),
    "bandai-namco": _both_sides(
        {**_BACK, "spine2": "Chest", "spine3": ("Chest", "Neck", 0.25)},
        {**_BANDAI_LEG, "left_collar": "Shoulder_L", **_BANDAI_ARM},
        sides=("_L", "_R"),
    ),
}


def recognise(names: Sequence[str], where: object = "skeleton") -> str:
    """The preset whose joints are all among `names`; of several, the one with the most joints. `where`: for errors."""
    known = set(_plain(names)) | set(names)
    complete = [preset for preset, points in PRESETS.items() if _joints_of(points) <= known]
    if not complete:
        raise DataError(
            f"{where}: no preset ({', '.join(PRESETS)}) fits its joints: {', '.join(names)}. Write a JSON file "
            f'{{"pelvis": "{names[0]}", "spine3": ["Chest", "Neck", 0.25], …}} that gives each of '
            f"{', '.join(HUMANML3D.joints)} a joint, or a point between two joints, and pass it with --map."
        )
    return max(complete, key=lambda preset: len(_joints_of(PRESETS[preset])))


def checked(content: object, where: object = "joint map") -> JointMap:
    """Check a user's map, as read from JSON; DataError says what is wrong in the file `where`."""
    if not isinstance(content, dict):
        raise DataError(f"{where}: holds a {type(content).__name__}, expected an object: standard joint -> joint.")
    for name in content:
        if name not in HUMANML3D.joints:
            near = difflib.get_close_matches(name, HUMANML3D.joints, 1, cutoff=0)
            raise DataError(f"{where}: no standard joint is named {name!r}. The nearest name is {near[0]!r}.")
    if missing := [joint for joint in HUMANML3D.joints if joint not in content]:
        raise DataError(f"{where}: {', '.join(missing)} have no joint. Add them.")
    return {joint: _point(joint, point, where) for joint, point in content.items()}


def weights(names: Sequence[str], points: JointMap, where: object = "skeleton") -> Tensor:
    """A map as a matrix (22, J), float64, to multiply with joint positions (..., J, 3).

    names: the skeleton's joints; the map may omit a prefix that all of them share ("mixamorig:"). `where`: for errors.
    """
    index = {name: joint for joint, name in enumerate(_plain(names))} | {name: j for j, name in enumerate(names)}
    matrix = torch.zeros(len(HUMANML3D), len(names), dtype=torch.float64)
    for row, joint in enumerate(HUMANML3D.joints):
        point = points[joint]
        a, b, at = (point, point, 0.0) if isinstance(point, str) else point
        for name, share in ((a, 1 - at), (b, at)):
            if name not in index:
                raise DataError(
                    f"{where}: the joint of {joint}, {name!r}, is not among {', '.join(names)}. Change --map."
                )
            matrix[row, index[name]] += share
    return matrix


def _point(joint: str, value: object, where: object) -> Point:
    if isinstance(value, str) and value:
        return value
    match value:
        case [str(a), str(b), int() | float() as share] if not isinstance(share, bool) and math.isfinite(share):
            return a, b, float(share)
    raise DataError(
        f'{where}: {joint} is {value!r}, expected the name of a joint or a point such as ["Chest", "Neck", 0.25].'
    )


def _joints_of(points: JointMap) -> set[str]:
    return {name for point in points.values() for name in ((point,) if isinstance(point, str) else point[:2])}


def _plain(names: Sequence[str]) -> list[str]:
    """Names without a namespace ("mixamorig:") and without a prefix that all share ("Character1_")."""
    plain = [name.rpartition(":")[2] for name in names]
    root, underscore, _ = plain[0].rpartition("_")
    if all(name.startswith(root + underscore) for name in plain):
        plain = [name.removeprefix(root + underscore) for name in plain]
    # Two bodies in one file would get equal names: these keep their prefixes.
    return plain if len(set(plain)) == len(plain) else list(names)


# The two skeletons measure different points of the back: MMM's root, belly, thorax and neck take the nearest joints of
# HumanML3D. A toe of KIT-ML is a foot of HumanML3D.
_NEAREST = {"root": "pelvis", "bp": "spine1", "bt": "spine3", "bln": "neck", "bun": "head"}
_NEAREST |= {f"{side}_toe": f"{side}_foot" for side in ("left", "right")}


def to_kit(joints: np.ndarray) -> np.ndarray:
    """Convert joints (T, 22, 3) in metres to KIT-ML's (T, 21, 3), in 640 per metre, at the same frame rate."""
    there = dict(zip(HUMANML3D.joints, joints.swapaxes(0, 1), strict=True))
    for side in ("left", "right"):  # the middle of a foot lies between ankle and toe
        there[f"{side}_midfoot"] = 0.5 * there[f"{side}_ankle"] + 0.5 * there[f"{side}_foot"]
    return KIT.units_per_metre * np.stack([there[_NEAREST.get(name, name)] for name in KIT.joints], axis=1)

"""Map the joints of any skeleton to the 22 of HumanML3D by their names, and those to KIT-ML's 21.

A map gives for each standard joint the name of a joint, or [a, b, share]: the point at that share of the way from
joint a to joint b. The presets are such maps, and users write their own as JSON.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaclip.files import FileError, parse_json, read_bytes
from adaqf_train.errors import DataError
from adaqf_train.motion.presets import PRESETS, JointMap, Point, composed, key
from adaqf_train.motion.skeleton import HUMANML3D, KIT

__all__ = ["PRESETS", "JointMap", "Point", "checked", "load_map", "map_for", "recognise", "to_kit", "weights"]


def recognise(names: Sequence[str], where: object = "skeleton") -> str:
    """The preset whose joints are all among `names`; of several, the one with the most joints. `where`: for errors."""
    known = _index(names)
    complete = [
        preset
        for preset, points in PRESETS.items()
        if all(_found(name, known) is not None for name in _joints_of(points))
    ]
    if not complete:
        raise _unknown(names, where)
    return max(complete, key=lambda preset: len(_joints_of(PRESETS[preset])))


def map_for(names: Sequence[str], choice: str | None = None, where: object = "skeleton") -> JointMap:
    """The map of a skeleton: the one chosen (`load_map`), else the preset that fits, else one of usual names.

    Case, separators and shared prefixes of names do not matter. `where`: for errors.
    """
    if choice is not None:
        return load_map(choice)
    try:
        return PRESETS[recognise(names, where)]
    except DataError:
        keys = {name: found for name, found in _keys(_plain(names)).items() if found is not None}
        points, missing = composed(keys)
        if points is None:
            raise _unknown(names, where, missing) from None
        return points


def load_map(choice: str) -> JointMap:
    """The preset of that name, or the map in that JSON file."""
    if choice.lower() in PRESETS:
        return PRESETS[choice.lower()]
    path = Path(choice)
    if not path.is_file():
        raise DataError(f"--map {choice}: neither a preset ({', '.join(PRESETS)}) nor a file. Name one.")
    try:
        content = parse_json(read_bytes(path), path)
    except FileError as error:
        raise DataError(f"{error} It maps each standard joint to a joint.") from error
    return checked(content, path)


def _unknown(names: Sequence[str], where: object, missing: str = "") -> DataError:
    usual = f" By usual names it has {missing}." if missing else ""
    return DataError(
        f"{where}: no preset ({', '.join(PRESETS)}) fits its joints: {', '.join(names)}.{usual} Write a JSON file "
        f'{{"pelvis": "{names[0]}", "spine3": ["Chest", "Neck", 0.25], …}} that gives each of '
        f"{', '.join(HUMANML3D.joints)} a joint, or a point between two joints, and pass it with --map."
    )


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
    known = _index(names)
    matrix = torch.zeros(len(HUMANML3D), len(names), dtype=torch.float64)
    for row, joint in enumerate(HUMANML3D.joints):
        point = points[joint]
        a, b, at = (point, point, 0.0) if isinstance(point, str) else point
        for name, share in ((a, 1 - at), (b, at)):
            if (found := _found(name, known)) is None:
                raise DataError(
                    f"{where}: the joint of {joint}, {name!r}, is not among {', '.join(names)}. Change --map."
                )
            matrix[row, found] += share
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


def _index(names: Sequence[str]) -> dict[str, int | None]:
    """The joint of each name, of each name without its prefix, and of each key of names; None: several joints'."""
    keys = _keys(_plain(names))
    plain = {name: joint for joint, name in enumerate(_plain(names))}
    own = {name: joint for joint, name in enumerate(names)}
    by_key = {f"key {name}": None if found is None else plain[found] for name, found in keys.items()}
    return {**by_key, **plain, **own}


def _found(name: str, known: Mapping[str, int | None]) -> int | None:
    """The joint that a name means: written like this, else with other case and separators."""
    return known[name] if name in known else known.get(f"key {key(name)}")


def _keys(names: Sequence[str]) -> dict[str, str | None]:
    """The name of each key; None for a key of several names."""
    found: dict[str, str | None] = {}
    for name in names:
        found[key(name)] = None if key(name) in found else name
    return found


def _plain(names: Sequence[str]) -> list[str]:
    """Names without a namespace ("mixamorig:") and without a prefix that all share ("Character1_")."""
    plain = [name.rpartition(":")[2] for name in names]
    prefix = min(plain, key=len)
    while not all(name.startswith(prefix) for name in plain):
        prefix = prefix[:-1]
    prefix = prefix[: prefix.rfind("_") + 1]
    plain = [name.removeprefix(prefix) for name in plain]
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

"""The T-pose of exported skeletons: the directions of its bones, and the axes that elbows and knees turn about."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adaqf_train.motion.skeleton import Skeleton

# Unit directions of the bone that ends in a joint, for a body that stands upright, faces +Z and stretches its arms out
# to the sides; for the left side, which has positive x. Hips, collars and shoulders are those of an average body:
# bones that branch off one joint are later fitted to the clip.
_DIRECTIONS: Mapping[str, tuple[float, float, float]] = {
    "hip": (0.6, -0.8, 0.0),
    "knee": (0.0, -1.0, 0.0),
    "ankle": (0.0, -1.0, 0.0),
    "midfoot": (0.0, -0.6, 0.8),
    "foot": (0.0, -0.42, 0.9075),
    "toe": (0.0, 0.0, 1.0),
    "collar": (0.6, 0.8, 0.0),
    "shoulder": (0.96, 0.28, 0.0),
    "elbow": (1.0, 0.0, 0.0),
    "wrist": (1.0, 0.0, 0.0),
    "head": (0.0, 0.9, 0.4359),
}
_SPINE = (0.0, 1.0, 0.0)
# The direction in which the bone beyond a hinge moves when a straight limb bends: forearms forward, shanks backward.
_BENDS: Mapping[str, tuple[float, float, float]] = {"elbow": (0.0, 0.0, 1.0), "knee": (0.0, 0.0, -1.0)}


def directions(skeleton: Skeleton) -> Tensor:
    """Unit directions (J, 3), float64, of the bones that end in each joint of the T-pose; zero for the root."""
    rows = [(0.0, 0.0, 0.0)]
    for name in skeleton.joints[1:]:
        side, _, part = name.rpartition("_")
        x, y, z = _DIRECTIONS.get(part, _SPINE)
        rows.append((-x if side == "right" else x, y, z))
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float64), dim=-1)


def hinges(skeleton: Skeleton) -> dict[int, Tensor]:
    """Axes (3,) that elbows and knees turn about in the T-pose, by the joint above (shoulder, hip)."""
    rest, axes = directions(skeleton), {}
    for joint, name in enumerate(skeleton.joints):
        bend = _BENDS.get(name.rpartition("_")[2])
        if bend is not None:
            axes[skeleton.parents[joint]] = torch.linalg.cross(rest[joint], rest.new_tensor(bend))
    return axes

"""Joint rotations from joint positions, for file formats that store rotations.

Positions determine the direction of a bone, but not its rotation about itself. Let o_c be the T-pose offset of child c
from joint j, and v_c(t) the bone in frame t. The global rotation R_j(t), the identity in the T-pose, is

- at joints with several children (pelvis, upper chest) the best fit, argmin_R sum_c |R o_c - v_c(t)|^2: the
  eigenvector of the largest eigenvalue of Horn's 4 x 4 matrix (Horn 1987). The shape of the offsets is the clip's own:
  fit and average are iterated, and the average is rotated back onto the T-pose;
- at joints with one child the shortest arc from the direction of the bone under the parent's rotation to its actual
  direction (the swing), which adds no rotation about the bone;
- above an elbow or a knee, the swing followed by a rotation phi about the bone u that brings the hinge's axis h towards
  the normal of the bend, n = |u x l| u x l with l the bone below: phi = atan2(n·(u x h), STRAIGHT^2 + max(n·h, 0)). It
  fades to zero as the limb straightens and n becomes noise, is continuous, and stays within 90 degrees;
- along the spine, between the pelvis and the upper chest, the swing followed by an even share of the rotation that
  remains between the swings and the chest's own rotation;
- at the ends (head, wrists, toes) the parent's rotation, because positions say nothing about them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from adaqf_train.motion import kinematics, rotations
from adaqf_train.motion.skeleton import Skeleton

Bones = Literal["auto", "rigid", "stretch"]
TOLERANCE = 0.005  # largest error of a joint in metres with which "auto" keeps the lengths of bones
STRAIGHT = 0.2  # sine of the bend of an elbow or knee beyond which the bend determines the limb's own rotation
ROUNDS = 4  # of fitting rotations and averaging shapes; after three, shapes change by less than 0.1 mm
SHORTEST = 1e-6  # metres; a shorter bone has no direction

# Unit directions of the bone that ends in a joint, for a body that stands upright, faces +Z and stretches its arms out
# to the sides; for the left side, which has positive x. Hips, collars and shoulders are those of an average body:
# bones that branch off one joint are later fitted to the clip.
_DIRECTIONS: dict[str, tuple[float, float, float]] = {
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
_BENDS: dict[str, tuple[float, float, float]] = {"elbow": (0.0, 0.0, 1.0), "knee": (0.0, 0.0, -1.0)}


@dataclass(frozen=True)
class Animation:
    """A skeleton in its T-pose and the local transforms that animate it."""

    skeleton: Skeleton
    offsets: Tensor  # (J, 3) float64, metres: each joint from its parent in the T-pose; zero for the root
    translations: Tensor  # (T, J, 3): the root's path, and the offsets unless the bones stretch
    turns: Tensor  # (T, J, 4): rotations relative to the parent, with signs that are continuous in time
    stretches: bool  # whether bones change their length
    error: float  # metres, the largest error of any joint in any frame if bones keep their lengths

    def positions(self) -> np.ndarray:
        """Global joint positions (T, J, 3) by forward kinematics, float64."""
        return kinematics.forward(self.translations, self.turns, self.skeleton.parents)[0].numpy()


def rest_directions(skeleton: Skeleton) -> Tensor:
    """Unit directions (J, 3), float64, of the bones that end in each joint of the T-pose; zero for the root."""
    rows = [(0.0, 0.0, 0.0)]
    for name in skeleton.joints[1:]:
        side, _, part = name.rpartition("_")
        x, y, z = _DIRECTIONS.get(part, _SPINE)
        rows.append((-x if side == "right" else x, y, z))
    return normalize(torch.tensor(rows, dtype=torch.float64), dim=-1)


def hinges(skeleton: Skeleton) -> dict[int, Tensor]:
    """Axes (3,) that elbows and knees turn about in the T-pose, by the joint above (shoulder, hip)."""
    rest, axes = rest_directions(skeleton), {}
    for joint, name in enumerate(skeleton.joints):
        bend = _BENDS.get(name.rpartition("_")[2])
        if bend is not None:
            axes[skeleton.parents[joint]] = torch.linalg.cross(rest[joint], rest.new_tensor(bend))
    return axes


def solve_rotations(joints: np.ndarray, skeleton: Skeleton, bones: Bones = "auto") -> Animation:
    """Find the joint rotations of a motion (T, J, 3), metres, Y up.

    bones: "rigid" gives every bone its median length over the clip. The bones of generated motions vary in length, so
    their joints get an error. "stretch" moves every joint to its exact position. "auto" is rigid unless a joint would
    be off by more than TOLERANCE.
    """
    target = torch.as_tensor(np.asarray(joints, dtype=np.float64))
    parents = list(skeleton.parents[1:])
    bone = torch.cat([torch.zeros_like(target[:, :1]), target[:, 1:] - target[:, parents]], dim=1)
    lengths = bone.norm(dim=-1).median(dim=0).values[:, None]
    orientations, directions = _orientations(bone, lengths, skeleton)
    offsets = directions * lengths

    above = orientations[:, parents]
    turns = torch.cat([orientations[:, :1], rotations.multiply(rotations.inverse(above), orientations[:, 1:])], dim=1)
    turns = rotations.aligned(turns)
    rigid = offsets.expand_as(target).clone()
    rigid[:, 0] = target[:, 0]
    placed = kinematics.forward(rigid, turns, skeleton.parents)[0]
    error = float((placed - target).norm(dim=-1).max())
    stretches = bones == "stretch" or (bones == "auto" and error > TOLERANCE)
    if stretches:
        rigid[:, 1:] = rotations.rotate(rotations.inverse(above), bone[:, 1:])
    return Animation(skeleton, offsets, rigid, turns, stretches, error)


def _orientations(bone: Tensor, lengths: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Find global rotations (T, J, 4), and the directions (J, 3) of a T-pose whose branches have the clip's shape.

    bone: (T, J, 3) from each joint's parent to it; lengths: (J, 1).
    """
    axes, directions = hinges(skeleton), rest_directions(skeleton)
    found: list[Tensor] = []
    for joint, below in enumerate(skeleton.children):
        above = found[skeleton.parents[joint]] if joint else rotations.identity(bone.shape[:1], bone)
        if len(below) > 1:
            shape, turn = _branch(bone[:, below], directions[below] * lengths[below])
            directions[below] = torch.where(lengths[below] > SHORTEST, normalize(shape, dim=-1), directions[below])
            _share_turn(found, turn, joint, skeleton, directions)
        elif below:
            (child,) = below
            carried = rotations.rotate(above, directions[child])
            along = _pointing(bone[:, child], carried)
            turn = rotations.multiply(rotations.between(carried, along), above)
            if joint in axes:
                beyond = _pointing(bone[:, skeleton.children[child][0]], along)
                turn = _facing_the_bend(turn, along, beyond, axes[joint])
        else:
            turn = above
        found.append(turn)
    return torch.stack(found, dim=1), directions


def _branch(bones: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a rigid shape (C, 3) to bones (T, C, 3) that branch off one joint; also return its rotations (T, 4).

    offsets: (C, 3), those of the T-pose, which set the lengths and the frame.
    """
    size = offsets.norm(dim=-1, keepdim=True)
    wanted = normalize(bones, dim=-1) * size
    shape = offsets
    for _ in range(ROUNDS):
        turn = _fit(shape, wanted)
        mean = rotations.rotate(rotations.inverse(turn)[:, None], wanted).mean(dim=0)
        # The average may rotate as a whole from round to round; its shape does not change by that.
        shape = rotations.rotate(_fit(mean, offsets), mean)
        shape = torch.where(shape.norm(dim=-1, keepdim=True) > SHORTEST, normalize(shape, dim=-1) * size, offsets)
    return shape, _fit(shape, wanted)


def _fit(source: Tensor, target: Tensor) -> Tensor:
    """Rotations that fit vectors to others in the least-squares sense. (..., C, 3), (..., C, 3) -> (..., 4)."""
    s = (source[..., :, None] * target[..., None, :]).sum(dim=-3)  # (..., 3, 3): the sum of source times target
    trace = s.diagonal(dim1=-2, dim2=-1).sum(-1)
    twist = torch.stack([s[..., 1, 2] - s[..., 2, 1], s[..., 2, 0] - s[..., 0, 2], s[..., 0, 1] - s[..., 1, 0]], dim=-1)
    inner = s + s.transpose(-1, -2) - trace[..., None, None] * torch.eye(3, dtype=s.dtype)
    top = torch.cat([trace[..., None], twist], dim=-1)[..., None, :]
    horn = torch.cat([top, torch.cat([twist[..., None], inner], dim=-1)], dim=-2)
    return torch.linalg.eigh(horn).eigenvectors[..., -1]


def _share_turn(found: list[Tensor], turn: Tensor, branch: int, skeleton: Skeleton, directions: Tensor) -> None:
    """Rotate the joints with one child below the last branch about their bones, by growing shares of a turn (T, 4)."""
    stem, joint = [branch], skeleton.parents[branch]
    while joint >= 0 and len(skeleton.children[joint]) == 1:
        stem.insert(0, joint)
        joint = skeleton.parents[joint]
    if len(stem) == 1:
        return
    left = rotations.multiply(rotations.inverse(found[stem[-2]]), turn)
    angle = 2 * torch.atan2((left[..., 1:] * directions[branch]).sum(-1), left[..., 0])
    angle = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
    for place, (joint, child) in enumerate(itertools.pairwise(stem), start=1):
        along = rotations.rotate(found[joint], directions[child])
        share = (angle * place / len(stem))[:, None]
        found[joint] = rotations.multiply(rotations.from_axis_angle(along * share), found[joint])


def _facing_the_bend(turn: Tensor, along: Tensor, beyond: Tensor, hinge: Tensor) -> Tensor:
    """Rotate (T, 4) about the bones `along` so that the hinge's axis (3,) points towards the axis of the bend."""
    axis = rotations.rotate(turn, hinge)
    normal = torch.linalg.cross(along, beyond)
    normal = normal * normal.norm(dim=-1, keepdim=True)
    across = (normal * torch.linalg.cross(along, axis)).sum(-1, keepdim=True)
    angle = torch.atan2(across, STRAIGHT**2 + (normal * axis).sum(-1, keepdim=True).clamp(min=0))
    return rotations.multiply(rotations.from_axis_angle(along * angle), turn)


def _pointing(bone: Tensor, otherwise: Tensor) -> Tensor:
    """Unit directions of bones (T, 3), or `otherwise` where a bone has no length."""
    return torch.where(bone.norm(dim=-1, keepdim=True) > SHORTEST, normalize(bone, dim=-1), otherwise)

"""The standard skeletons: joint names, bones, rest directions and the tables every feature depends on.

Joint order and rest directions are those of HumanML3D and KIT-ML (Guo et al. 2022, `paramUtil.py` of
EricGuo5513/HumanML3D), which is also the order of SMPL's first 22 joints.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Skeleton:
    """A joint tree and the conventions of its feature vector (Guo et al. 2022)."""

    name: str
    joints: tuple[str, ...]
    chains: tuple[tuple[int, ...], ...]
    """Kinematic chains, root first. The rotations of a chain are relative to the root even where the chain starts
    elsewhere: the arms hang from spine3, but the official pipeline relates them to the root."""
    rest_directions: tuple[tuple[int, int, int], ...]  # unit bone directions of the rest pose
    bone_lengths: tuple[float, ...] | None  # of joints 1..J-1, in the skeleton's units; None: clips keep their own
    fps: float  # frames per second
    units_per_metre: float
    leg: tuple[int, int]  # joints that end thigh and shank, whose lengths scale a foreign body to this one
    contact_threshold: float  # squared displacement per frame below which a foot joint is in contact

    right_hip = cached_property(lambda self: self.joints.index("right_hip"))
    left_hip = cached_property(lambda self: self.joints.index("left_hip"))
    right_shoulder = cached_property(lambda self: self.joints.index("right_shoulder"))
    left_shoulder = cached_property(lambda self: self.joints.index("left_shoulder"))
    left_foot = cached_property(lambda self: self._foot(self.left_hip))  # ankle, toe: contact labels 0 and 1
    right_foot = cached_property(lambda self: self._foot(self.right_hip))  # contact labels 2 and 3

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def toes(self) -> tuple[int, int]:
        """Left and right toe."""
        return self.left_foot[1], self.right_foot[1]

    @property
    def features(self) -> int:
        """Width D of the feature vector: 263 for HumanML3D, 251 for KIT-ML."""
        return 12 * len(self) - 1

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Parent of each joint, -1 for the root."""
        parents = [-1] * len(self)
        for chain in self.chains:
            for parent, joint in itertools.pairwise(chain):
                parents[joint] = parent
        return tuple(parents)

    @cached_property
    def children(self) -> tuple[list[int], ...]:
        """Children of each joint."""
        return tuple([child for child, parent in enumerate(self.parents) if parent == j] for j in range(len(self)))

    @cached_property
    def rotation_parents(self) -> tuple[int, ...]:
        """The joint to which each joint's rotation is relative: its parent, or the root at the start of a chain."""
        relative_to = [0] * len(self)
        for chain in self.chains:
            for parent, joint in itertools.pairwise(chain[1:]):
                relative_to[joint] = parent
        return tuple(relative_to)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """Index of the joint on the other side, for each joint."""
        other = {"left": "right", "right": "left"}
        parts = [name.partition("_") for name in self.joints]
        return tuple(self.joints.index("".join((other.get(side, side), *rest))) for side, *rest in parts)

    @property
    def feet(self) -> tuple[int, ...]:
        """Left ankle, left toe, right ankle, right toe: the order of the contact labels."""
        return self.left_foot + self.right_foot

    def _foot(self, hip: int) -> tuple[int, int]:
        """The last two joints of the leg that starts at a hip."""
        return next(chain[-2:] for chain in self.chains if hip in chain)

    def lengths_of(self, joints: Tensor) -> Tensor:
        """Bone lengths (..., J-1) of joints (..., J, 3), in the order of joints 1..J-1."""
        return (joints[..., 1:, :] - joints[..., list(self.parents[1:]), :]).norm(dim=-1)

    def mirror(self, joints: Tensor) -> Tensor:
        """Mirrored joints: x negated, left and right swapped. (..., J, 3) -> (..., J, 3)."""
        flipped = joints[..., list(self.mirrored), :].clone()
        flipped[..., 0] *= -1
        return flipped

    def pose_from_directions(self, root: Tensor, directions: Tensor, lengths: Tensor) -> Tensor:
        """Add up bones from the root: positions (..., J, 3).

        root: (..., 3); directions: unit vectors (..., J-1, 3); lengths: broadcastable to (..., J-1).
        """
        bones = directions * lengths[..., None]
        joints: list[Tensor] = [root]
        for joint in range(1, len(self)):
            joints.append(joints[self.parents[joint]] + bones[..., joint - 1, :])
        return torch.stack(joints, dim=-2)


def _directions(axes: str) -> tuple[tuple[int, int, int], ...]:
    """Unit vectors of axis names such as "+x -y"; "0" is the null vector of the root."""
    units = {"0": (0, 0, 0), "+x": (1, 0, 0), "-x": (-1, 0, 0), "+y": (0, 1, 0), "-y": (0, -1, 0), "+z": (0, 0, 1)}
    return tuple(units[axis] for axis in axes.split())


_HUMANML3D_JOINTS = """
pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot neck
left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
"""
# Frame 0 of clip 000021, the official target skeleton, in metres.
_HUMANML3D_BONES = """
0.103074 0.109883 0.131568 0.393623 0.390188 0.14319 0.432433 0.425643 0.057365 0.143382 0.149419
0.21936 0.137487 0.143383 0.103039 0.131614 0.122984 0.25684 0.263092 0.266012 0.269876
"""
HUMANML3D = Skeleton(
    name="humanml3d",
    joints=tuple(_HUMANML3D_JOINTS.split()),
    chains=((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20)),
    rest_directions=_directions("0 +x -x +y -y -y +y -y -y +y +z +z +y +x -x +z -y -y -y -y -y -y"),
    bone_lengths=tuple(map(float, _HUMANML3D_BONES.split())),
    fps=20.0,
    units_per_metre=1.0,
    leg=(5, 8),
    contact_threshold=0.002,
)

# Left and right as in the official code (`scripts/motion_process.py`: r_hip 11, sdr_r 5, fid_r 14 and 15) and in the
# files: with the body facing +Z, joint 11 has negative x.
_KIT_JOINTS = """
root bp bt bln bun right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip
right_knee right_ankle right_midfoot right_toe left_hip left_knee left_ankle left_midfoot left_toe
"""
KIT = Skeleton(
    name="kit",
    joints=tuple(_KIT_JOINTS.split()),
    chains=((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10)),
    rest_directions=_directions("0 +y +y +y +y +x -y -y -x -y -y +x -y -y +z +z -x -y -y +z +z"),
    bone_lengths=None,
    fps=12.5,
    units_per_metre=640.0,
    leg=(17, 18),
    contact_threshold=0.05,
)


def skeleton_of(joints: int) -> Skeleton:
    """Find the standard skeleton of 22 (HumanML3D) or 21 (KIT-ML) joints, else raise ValueError."""
    for skeleton in (HUMANML3D, KIT):
        if len(skeleton) == joints:
            return skeleton
    raise ValueError(f"No standard skeleton has {joints} joints: expected 22 (HumanML3D) or 21 (KIT-ML).")


def skeleton_of_width(features: int) -> Skeleton:
    """Find the standard skeleton of a feature width, 263 (HumanML3D) or 251 (KIT-ML), else raise ValueError."""
    for skeleton in (HUMANML3D, KIT):
        if skeleton.features == features:
            return skeleton
    raise ValueError(f"No standard representation has {features} features: expected 263 (HumanML3D) or 251 (KIT-ML).")


class Landmarks(NamedTuple):
    """Indices of joints by which a body is judged; pairs are left, right."""

    root: int
    neck: int
    head: int
    hips: tuple[int, int]
    knees: tuple[int, int]
    ankles: tuple[int, int]
    toes: tuple[int, int]
    hands: tuple[int, int]


def landmarks(skeleton: Skeleton) -> Landmarks:
    """The landmarks of a standard skeleton."""
    legs = [next(c for c in skeleton.chains if hip in c) for hip in (skeleton.left_hip, skeleton.right_hip)]
    spine = next(c for c in skeleton.chains if c[0] == 0 and c not in legs)
    arms = [next(c for c in skeleton.chains if j in c) for j in (skeleton.left_shoulder, skeleton.right_shoulder)]

    def pair(chains: Sequence[tuple[int, ...]], at: int) -> tuple[int, int]:
        return chains[0][at], chains[1][at]

    return Landmarks(
        0, spine[-2], spine[-1], pair(legs, 1), pair(legs, 2), pair(legs, 3), pair(legs, -1), pair(arms, -1)
    )

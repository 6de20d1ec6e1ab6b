"""The standard skeletons: joint names, bones, rest directions and the tables every feature depends on.

Joint order and rest directions are those of HumanML3D and KIT-ML (Guo et al. 2022, `paramUtil.py` of
EricGuo5513/HumanML3D), which is also the order of SMPL's first 22 joints.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Skeleton:
    """A joint tree and the conventions its feature vector is built on.

    chains: kinematic chains, root first. A chain fixes parents *and* where inverse kinematics starts over
    from the root's rotation: the arms hang from spine3 but their rotations are relative to the root (an
    official quirk that the 6-d rotations inherit).
    """

    name: str
    joints: tuple[str, ...]
    chains: tuple[tuple[int, ...], ...]
    rest_directions: tuple[tuple[int, int, int], ...]  # unit bone directions of the rest pose
    bone_lengths: tuple[float, ...] | None  # of joints 1..J-1; None: clips keep their own
    fps: float
    units_per_metre: float
    right_hip: int
    left_hip: int
    right_shoulder: int
    left_shoulder: int
    leg: tuple[int, int]  # thigh and shank joints whose lengths scale a foreign body to this one
    left_foot: tuple[int, int]  # ankle, toe: contact labels 0 and 1
    right_foot: tuple[int, int]  # contact labels 2 and 3
    contact_threshold: float  # squared displacement per frame below which a foot joint is in contact
    mirror_pairs: tuple[tuple[int, int], ...]  # (left, right)

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def features(self) -> int:
        """Width of the feature vector: 263 for HumanML3D, 251 for KIT-ML."""
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
    def rotation_parents(self) -> tuple[int, ...]:
        """Joint whose rotation each joint's rotation is relative to: its parent, or the root at a chain's start."""
        relative_to = [0] * len(self)
        for chain in self.chains:
            for parent, joint in itertools.pairwise(chain[1:]):
                relative_to[joint] = parent
        return tuple(relative_to)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """Index of the joint on the other side, for each joint."""
        order = list(range(len(self)))
        for left, right in self.mirror_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    @property
    def feet(self) -> tuple[int, ...]:
        return self.left_foot + self.right_foot

    def lengths_of(self, joints: Tensor) -> Tensor:
        """Bone lengths (..., J-1) of joints (..., J, 3), in the order of joints 1..J-1."""
        return (joints[..., 1:, :] - joints[..., list(self.parents[1:]), :]).norm(dim=-1)

    def mirror(self, joints: Tensor) -> Tensor:
        """The same motion seen in a mirror: x negated, left and right joints swapped. (..., J, 3) -> (..., J, 3)."""
        flipped = joints[..., list(self.mirrored), :].clone()
        flipped[..., 0] *= -1
        return flipped

    def pose_from_directions(self, root: Tensor, directions: Tensor, lengths: Tensor) -> Tensor:
        """Joints from the root's position, unit bone directions and bone lengths.

        root: (..., 3); directions: (..., J-1, 3); lengths: broadcastable to (..., J-1). Returns (..., J, 3).
        """
        bones = directions * lengths[..., None]
        joints: list[Tensor] = [root]
        for joint in range(1, len(self)):
            joints.append(joints[self.parents[joint]] + bones[..., joint - 1, :])
        return torch.stack(joints, dim=-2)


HUMANML3D = Skeleton(
    name="humanml3d",
    joints=(
        "pelvis",
        "left_hip",
        "right_hip",
        "spine1",
        "left_knee",
        "right_knee",
        "spine2",
        "left_ankle",
        "right_ankle",
        "spine3",
        "left_foot",
        "right_foot",
        "neck",
        "left_collar",
        "right_collar",
        "head",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
    ),
    chains=((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20)),
    rest_directions=(
        (0, 0, 0),
        (1, 0, 0),
        (-1, 0, 0),
        (0, 1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, 1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, 1, 0),
        (0, 0, 1),
        (0, 0, 1),
        (0, 1, 0),
        (1, 0, 0),
        (-1, 0, 0),
        (0, 0, 1),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, -1, 0),
    ),
    # Frame 0 of clip 000021, the official target skeleton, in metres.
    bone_lengths=(
        0.103074,
        0.109883,
        0.131568,
        0.393623,
        0.390188,
        0.143190,
        0.432433,
        0.425643,
        0.057365,
        0.143382,
        0.149419,
        0.219360,
        0.137487,
        0.143383,
        0.103039,
        0.131614,
        0.122984,
        0.256840,
        0.263092,
        0.266012,
        0.269876,
    ),
    fps=20.0,
    units_per_metre=1.0,
    right_hip=2,
    left_hip=1,
    right_shoulder=17,
    left_shoulder=16,
    leg=(5, 8),
    left_foot=(7, 10),
    right_foot=(8, 11),
    contact_threshold=0.002,
    mirror_pairs=((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21)),
)

# Sides as the official code uses them (`scripts/motion_process.py`: r_hip 11, sdr_r 5, fid_r 14 and 15), which is
# where the joints are in the files: with the body facing +Z, joint 11 has negative x.
KIT = Skeleton(
    name="kit",
    joints=(
        "root",
        "bp",
        "bt",
        "bln",
        "bun",
        "right_shoulder",
        "right_elbow",
        "right_wrist",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "right_hip",
        "right_knee",
        "right_ankle",
        "right_midfoot",
        "right_toe",
        "left_hip",
        "left_knee",
        "left_ankle",
        "left_midfoot",
        "left_toe",
    ),
    chains=((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10)),
    rest_directions=(
        (0, 0, 0),
        (0, 1, 0),
        (0, 1, 0),
        (0, 1, 0),
        (0, 1, 0),
        (1, 0, 0),
        (0, -1, 0),
        (0, -1, 0),
        (-1, 0, 0),
        (0, -1, 0),
        (0, -1, 0),
        (1, 0, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, 0, 1),
        (0, 0, 1),
        (-1, 0, 0),
        (0, -1, 0),
        (0, -1, 0),
        (0, 0, 1),
        (0, 0, 1),
    ),
    bone_lengths=None,
    fps=12.5,
    units_per_metre=640.0,
    right_hip=11,
    left_hip=16,
    right_shoulder=5,
    left_shoulder=8,
    leg=(17, 18),
    left_foot=(19, 20),
    right_foot=(14, 15),
    contact_threshold=0.05,
    mirror_pairs=((8, 5), (9, 6), (10, 7), (16, 11), (17, 12), (18, 13), (19, 14), (20, 15)),
)


def skeleton_of(joints: int) -> Skeleton:
    """The standard skeleton with that many joints; ValueError names the two that exist."""
    for skeleton in (HUMANML3D, KIT):
        if len(skeleton) == joints:
            return skeleton
    raise ValueError(f"No standard skeleton has {joints} joints: expected 22 (HumanML3D) or 21 (KIT-ML).")


def skeleton_of_width(features: int) -> Skeleton:
    """The standard skeleton whose feature vector has that width (263 or 251)."""
    for skeleton in (HUMANML3D, KIT):
        if skeleton.features == features:
            return skeleton
    raise ValueError(f"No standard representation has {features} features: expected 263 (HumanML3D) or 251 (KIT-ML).")

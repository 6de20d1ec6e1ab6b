"""Encode joints as HumanML3D (263-d) or KIT-ML (251-d) features and decode them, without a loop over frames.

Implements the pipeline of Guo et al. 2022 (`scripts/motion_process.py` of EricGuo5513/text-to-motion) with its quirks,
because the statistics and evaluators of the field depend on them:

* the forward direction subtracts the hip line instead of adding it (hips are unpacked swapped);
* the root's rotation is forced to the identity at frame 0, and the rotations of every chain start from the root's;
* the heading velocity is the arcsine of a quaternion component: half the angle, with a wrong sign for one frame where
  the heading crosses 180 degrees.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, normalize

from adaqf_train.motion import rotations
from adaqf_train.motion.skeleton import HUMANML3D, Skeleton, skeleton_of, skeleton_of_width

SMOOTHING_SIGMA = 20.0  # frames; upstream's gaussian_filter1d on the forward direction
SMOOTHING_RADIUS = 80  # frames; scipy's default truncation at 4 sigma


@dataclass(frozen=True)
class Slices:
    """Position of each group of features in the last dimension, for J joints."""

    root_rot_velocity: slice  # half angle about +Y, radians per frame
    root_linear_velocity: slice  # x, z of the root in its own frame, metres per frame
    root_height: slice  # metres above the floor
    positions: slice  # joints 1..J-1 relative to the root's ground point, facing +Z, metres
    rotations: slice  # joints 1..J-1, 6-d
    velocities: slice  # all joints, in the root's frame, metres per frame
    contacts: slice  # left ankle, left toe, right ankle, right toe: 0 or 1

    @classmethod
    def of(cls, skeleton: Skeleton) -> Slices:
        """The slices of a skeleton's features."""
        j = len(skeleton)
        bounds = np.cumsum([0, 1, 2, 1, 3 * (j - 1), 6 * (j - 1), 3 * j, 4])
        return cls(*(slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)))

    def groups(self) -> dict[str, slice]:
        """The slices by name, in order."""
        return dict(vars(self))


SLICES = Slices.of(HUMANML3D)


def slices_of_width(features: int) -> Slices:
    """The slices of a 263-d or 251-d representation."""
    return Slices.of(skeleton_of_width(features))


def _accepts_numpy(function: Callable[..., Tensor]) -> Callable:
    """Make a tensor function accept a numpy array, for which it then returns one."""

    @functools.wraps(function)
    def wrapper(array: Tensor | np.ndarray, *args, **kwargs):
        if isinstance(array, Tensor):
            return function(array, *args, **kwargs)
        array = np.asarray(array)
        if not np.issubdtype(array.dtype, np.floating):
            raise TypeError(f"Expected an array of floats, got dtype {array.dtype}.")
        # Torch has no read-only tensors, so a read-only array (a view into a memory map) is copied.
        return function(torch.from_numpy(np.require(array, requirements=["C", "W"])), *args, **kwargs).numpy()

    return wrapper


@_accepts_numpy
def encode(joints: Tensor, *, canonical: bool = True) -> Tensor:
    """Encode joint positions as motion features (Guo et al. 2022, `process_file`).

    Args:
        joints: Tensor or array (..., T, J, 3), J = 22 or 21, T >= 2, metres (KIT-ML: its own units), Y up.
        canonical: Run the whole official pipeline, that is `canonicalise` first, which leaves canonical joints
            unchanged.

    Returns:
        Features (..., T-1, 263 | 251) of the same kind and dtype.

    Raises:
        ValueError: The joints have another shape.
    """
    skeleton = _check_joints(joints)
    if canonical:
        joints = canonicalise(joints)
    joints64 = joints.double()  # float32 would lose precision far from the origin
    forward = _forward_direction(joints64, skeleton)
    heading = rotations.between(forward, forward.new_tensor([0.0, 0.0, 1.0])).clone()  # turns each frame to face +Z
    heading[..., 0, :] = heading.new_tensor([1.0, 0.0, 0.0, 0.0])
    frame = heading[..., None, :]  # the same rotation for every joint of a frame

    turn = rotations.multiply(heading[..., 1:, :], rotations.inverse(heading[..., :-1, :]))
    step = rotations.rotate(heading[..., 1:, :], joints64[..., 1:, 0, :] - joints64[..., :-1, 0, :])
    local = joints64.clone()
    local[..., [0, 2]] -= joints64[..., :1, [0, 2]]
    local = rotations.rotate(frame, local)
    velocity = rotations.rotate(frame[..., :-1, :, :], joints64[..., 1:, :, :] - joints64[..., :-1, :, :])

    parts = [
        turn[..., 2:3].clamp(-1, 1).asin(),
        step[..., [0, 2]],
        local[..., :-1, 0, 1:2],
        local[..., :-1, 1:, :].flatten(-2),
        _joint_rotations(joints64, heading, skeleton)[..., :-1, :, :].flatten(-2),
        velocity.flatten(-2),
        foot_contacts(joints).double(),
    ]
    return torch.cat(parts, dim=-1).to(joints.dtype)


@_accepts_numpy
def decode(features: Tensor) -> Tensor:
    """Decode motion features to joint positions (Guo et al. 2022, `recover_from_ric`). Differentiable.

    Args:
        features: Tensor or array (..., N, 263 | 251), de-normalised. Padding rows decode to garbage: cut clips to
            their length.

    Returns:
        Positions (..., N, J, 3) of the same kind, in metres (KIT-ML: its own units), Y up; frame 0 stands over the
        origin and faces +Z.

    Raises:
        ValueError: The features have another width.
    """
    skeleton = skeleton_of_width(features.shape[-1])
    where = Slices.of(skeleton)
    heading, root = root_trajectory(features)
    local = features[..., where.positions].unflatten(-1, (len(skeleton) - 1, 3))
    ground = root * root.new_tensor([1.0, 0.0, 1.0])
    others = rotations.rotate(rotations.inverse(heading)[..., None, :], local) + ground[..., None, :]
    return torch.cat([root[..., None, :], others], dim=-2)


def root_trajectory(features: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate the root's velocities: features (..., N, D) -> rotations to +Z (..., N, 4), positions (..., N, 3)."""
    where = slices_of_width(features.shape[-1])
    # Row t holds the step from frame t to t+1, so frame 0 gets zero.
    angle = _shift(features[..., where.root_rot_velocity]).squeeze(-1).cumsum(-1)
    heading = rotations.about_y(angle)
    x, z = _shift(features[..., where.root_linear_velocity]).unbind(-1)
    step = rotations.rotate(rotations.inverse(heading), torch.stack([x, torch.zeros_like(x), z], dim=-1))
    x, _, z = step.cumsum(-2).unbind(-1)
    return heading, torch.stack([x, features[..., where.root_height.start], z], dim=-1)


@_accepts_numpy
def mirror(features: Tensor) -> Tensor:
    """Mirror features: left and right exchanged, x negated. (..., N, D) -> (..., N, D).

    This equals encoding the mirrored joints with `canonical=False`. Upstream encodes them canonically, which differs by
    millimetres, since the standard bones differ between the sides.
    """
    skeleton = skeleton_of_width(features.shape[-1])
    order, where = list(skeleton.mirrored), Slices.of(skeleton)
    others = [joint - 1 for joint in order[1:]]

    def swapped(group: slice, joints: list[int], signs: list[float]) -> Tensor:
        by_joint = features[..., group].unflatten(-1, (len(joints), -1))
        return (by_joint[..., joints, :] * features.new_tensor(signs)).flatten(-2)

    flat = [-1.0, 1.0, 1.0]
    return torch.cat(
        [
            -features[..., where.root_rot_velocity],
            features[..., where.root_linear_velocity] * features.new_tensor([-1.0, 1.0]),
            features[..., where.root_height],
            swapped(where.positions, others, flat),
            # A mirrored rotation is M·R·M, which also negates its first column.
            swapped(where.rotations, others, [1.0, -1.0, -1.0, *flat]),
            swapped(where.velocities, order, flat),
            features[..., where.contacts][..., [2, 3, 0, 1]],
        ],
        dim=-1,
    )


@_accepts_numpy
def canonicalise(joints: Tensor) -> Tensor:
    """Normalise skeleton, height, place and heading of a clip.

    Bones take the standard lengths and keep their directions, and the root's path is scaled by the ratio of leg
    lengths. KIT-ML's 21 joints keep their lengths, since its reference clip is not part of this package.

    Args:
        joints: Tensor or array (..., T, J, 3), Y up.

    Returns:
        The joints with the floor at y = 0; frame 0 stands over the origin and faces +Z.
    """
    skeleton = _check_joints(joints)
    dtype, joints = joints.dtype, joints.double()
    if skeleton.bone_lengths is not None:
        joints = retarget(joints, skeleton)
    joints = joints - joints[..., 1].amin(dim=(-2, -1))[..., None, None, None] * joints.new_tensor([0.0, 1.0, 0.0])
    start = joints[..., :1, :1, :]
    joints = joints - start * joints.new_tensor([1.0, 0.0, 1.0])
    # Here upstream adds the hip line with the intended sign; `_forward_direction` has the opposite one.
    across = (
        joints[..., 0, skeleton.right_hip, :]
        - joints[..., 0, skeleton.left_hip, :]
        + joints[..., 0, skeleton.right_shoulder, :]
        - joints[..., 0, skeleton.left_shoulder, :]
    )
    turn = rotations.between(normalize(_ahead(across), dim=-1), joints.new_tensor([0.0, 0.0, 1.0]))
    return rotations.rotate(turn[..., None, None, :], joints).to(dtype)


def retarget(joints: Tensor, skeleton: Skeleton = HUMANML3D) -> Tensor:
    """Move bone directions to the standard skeleton (upstream's `uniform_skeleton`). (..., T, J, 3) -> same shape.

    Upstream solves inverse kinematics and applies it forward with other bone lengths. The rotations cancel, so scaling
    each bone along its direction gives the same result.
    """
    if skeleton.bone_lengths is None:
        raise ValueError(f"The {skeleton.name} skeleton has no standard bone lengths to retarget to.")
    target = joints.new_tensor(skeleton.bone_lengths)
    thigh, shank = (joint - 1 for joint in skeleton.leg)
    source = skeleton.lengths_of(joints[..., 0, :, :])
    scale = (target[thigh] + target[shank]) / (source[..., thigh] + source[..., shank])
    bones = joints[..., 1:, :] - joints[..., list(skeleton.parents[1:]), :]
    root = joints[..., 0, :] * scale[..., None, None]
    return skeleton.pose_from_directions(root, normalize(bones, dim=-1, eps=1e-8), target)


def foot_contacts(joints: Tensor) -> Tensor:
    """Contact labels of left ankle, left toe, right ankle, right toe. (..., T, J, 3) -> (..., T-1, 4), bool.

    A foot joint is in contact while its squared displacement to the next frame is below the threshold, at any height
    (upstream computes the height and does not use it).
    """
    skeleton = skeleton_of(joints.shape[-2])
    feet = joints[..., list(skeleton.feet), :]
    return (feet[..., 1:, :, :] - feet[..., :-1, :, :]).square().sum(-1) < skeleton.contact_threshold


def _forward_direction(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Smoothed forward direction of each frame, with upstream's subtracted hip line. (..., T, J, 3) -> (..., T, 3)."""
    across = (
        joints[..., skeleton.left_hip, :]
        - joints[..., skeleton.right_hip, :]
        + joints[..., skeleton.right_shoulder, :]
        - joints[..., skeleton.left_shoulder, :]
    )
    return normalize(_gaussian_smooth(_ahead(across)), dim=-1)


def _ahead(across: Tensor) -> Tensor:
    """Horizontal direction ahead of a body with left-to-right line `across`. (..., 3) -> (..., 3), length <= 1."""
    up = across.new_tensor([0.0, 1.0, 0.0]).expand_as(across)
    return torch.linalg.cross(up, normalize(across, dim=-1))


def _joint_rotations(joints: Tensor, heading: Tensor, skeleton: Skeleton) -> Tensor:
    """6-d rotations of joints 1..J-1 relative to their rotation parents. (..., T, J, 3) -> (..., T, J-1, 6).

    A joint's global rotation is the shortest one from its rest direction to the bone that ends in it, so the whole body
    is solved at once instead of chain by chain.
    """
    bones = normalize(joints[..., 1:, :] - joints[..., list(skeleton.parents[1:]), :], dim=-1)
    rest = joints.new_tensor(skeleton.rest_directions)[1:]
    own = torch.cat([heading[..., None, :], rotations.between(rest, bones)], dim=-2)
    parents = own[..., list(skeleton.rotation_parents[1:]), :]
    return rotations.to_cont6d(rotations.multiply(rotations.inverse(parents), own[..., 1:, :]))


def _gaussian_smooth(signal: Tensor) -> Tensor:
    """Differentiable counterpart of scipy's gaussian_filter1d in mode "nearest", along time. (..., T, C) -> same."""
    *batch, frames, channels = signal.shape
    grid = torch.arange(-SMOOTHING_RADIUS, SMOOTHING_RADIUS + 1, dtype=signal.dtype, device=signal.device)
    kernel = torch.exp(-0.5 * (grid / SMOOTHING_SIGMA).square())
    kernel = kernel / kernel.sum()
    rows = signal.transpose(-1, -2).reshape(-1, 1, frames)
    padded = torch.nn.functional.pad(rows, (SMOOTHING_RADIUS, SMOOTHING_RADIUS), mode="replicate")
    return conv1d(padded, kernel[None, None]).reshape(*batch, channels, frames).transpose(-1, -2)


def _shift(velocity: Tensor) -> Tensor:
    """Velocities one frame later, zero at frame 0. (..., N, C) -> same."""
    return torch.cat([torch.zeros_like(velocity[..., :1, :]), velocity[..., :-1, :]], dim=-2)


def _check_joints(joints: Tensor) -> Skeleton:
    if joints.ndim < 3 or joints.shape[-1] != 3:
        raise ValueError(f"Expected joints of shape (..., frames, joints, 3), got {tuple(joints.shape)}.")
    if joints.shape[-3] < 2:
        raise ValueError(f"Expected at least 2 frames (features hold velocities), got {joints.shape[-3]}.")
    return skeleton_of(joints.shape[-2])

"""SMPL's pose parameters from joint positions, in files like AMASS's (.npz), without the body model.

The file describes SMPL's mean body (betas 0), and the motion of the joints determines only part of its pose:

- rotations are relative to SMPL's rest pose and in the order of its kinematic tree, for the body's 22 joints; hands,
  jaw and eyes are at rest. What positions leave open, such as the rotation of head and hands, is as in `animation`;
- the root's path is scaled by the ratio of the legs, and raised or lowered so that the mean body's feet are on the
  floor: hips and feet of other skeletons have other proportions;
- the rest positions of the mean body's joints are rounded, and those of its bones are used for SMPL-X too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adaclip.files import atomic_file
from adaqf_train.data.prepare.amass import parameters
from adaqf_train.errors import ExportError
from adaqf_train.files.animation import Animation, solve_rotations
from adaqf_train.motion import kinematics, rotations
from adaqf_train.motion.orientation import turned
from adaqf_train.motion.skeleton import HUMANML3D, Skeleton

BodyModel = Literal["smplh", "smplx"]
SHAPES, SOFT = 16, 8  # coefficients of AMASS's shape and soft tissue, all zero
JOINTS = {"smplh": 52, "smplx": 55}
# Metres, Y up: the pelvis of the mean body, and every other joint from its parent, at rest.
PELVIS = {"smplh": (-0.0018, -0.2233, 0.0282), "smplx": (0.0031, -0.3514, 0.0120)}
REST = torch.tensor(
    [
        (0.0, 0.0, 0.0),
        (0.0695, -0.0914, -0.0068),
        (-0.0677, -0.0905, -0.0043),
        (-0.0025, 0.1090, -0.0267),
        (0.0343, -0.3752, -0.0045),
        (-0.0383, -0.3826, -0.0089),
        (0.0055, 0.1352, 0.0011),
        (-0.0136, -0.3980, -0.0437),
        (0.0158, -0.3984, -0.0423),
        (0.0015, 0.0529, 0.0254),
        (0.0264, -0.0558, 0.1193),
        (-0.0254, -0.0481, 0.1233),
        (-0.0028, 0.2139, -0.0429),
        (0.0788, 0.1217, -0.0341),
        (-0.0818, 0.1188, -0.0386),
        (0.0052, 0.0650, 0.0513),
        (0.0910, 0.0305, -0.0089),
        (-0.0960, 0.0326, -0.0091),
        (0.2596, -0.0128, -0.0275),
        (-0.2537, -0.0133, -0.0214),
        (0.2492, 0.0090, -0.0012),
        (-0.2553, 0.0078, -0.0056),
    ],
    dtype=torch.float64,
)
TO_Z_UP = torch.tensor((0.5**0.5, 0.5**0.5, 0.0, 0.0), dtype=torch.float64)  # a quarter turn about X


@dataclass(frozen=True)
class SmplMotion:
    """A motion of SMPL's mean body."""

    animation: Animation  # of the clip's own bones in the directions of SMPL's rest pose, Y up
    scale: float  # of the root's path: the mean body's legs relative to the clip's
    lift: float  # metres, added to the height of the scaled path, so that the feet are where the clip's are
    error: float  # metres, the mean distance of the mean body's joints from the scaled positions

    def positions(self) -> np.ndarray:
        """Joints (T, 22, 3) of the mean body by forward kinematics, metres, Y up."""
        return _mean_body(self.animation, self.scale, self.lift).numpy()


def fit_smpl(joints: np.ndarray, skeleton: Skeleton) -> SmplMotion:
    """Find SMPL's joint rotations of a motion (T, 22, 3), metres, Y up."""
    if skeleton is not HUMANML3D:
        raise ExportError(
            f"SMPL has HumanML3D's 22 joints, not the {len(skeleton)} of {skeleton.name}. Save a .bvh file."
        )
    animation = solve_rotations(joints, skeleton, rest=REST)
    knee, ankle = skeleton.leg
    legs = [float(offsets[[knee, ankle]].norm(dim=-1).sum()) for offsets in (REST, animation.offsets)]
    scale = legs[0] / legs[1] if legs[1] > 0 else 1.0
    wanted, found = scale * torch.as_tensor(animation.positions()), _mean_body(animation, scale, 0.0)
    lowest = [places[:, list(skeleton.feet), 1].amin(dim=1) for places in (wanted, found)]
    lift = float((lowest[0] - lowest[1]).median())
    away = (_mean_body(animation, scale, lift) - wanted).norm(dim=-1)
    return SmplMotion(animation, scale, lift, float(away.mean()))


def _mean_body(animation: Animation, scale: float, lift: float) -> Tensor:
    translations = REST.expand_as(animation.translations).clone()
    translations[:, 0] = scale * animation.translations[:, 0]
    translations[:, 0, 1] += lift
    return kinematics.forward(translations, animation.turns, animation.skeleton.parents)[0]


def read_smpl(path: Path) -> tuple[np.ndarray, float, bool]:
    """Read an AMASS file of SMPL-H or SMPL-X as the motion of the mean body.

    Returns the joints (T, 22, 3), metres, Y up; the frames per second; and whether the body's own shape was left out.
    """
    clip = parameters(path)
    axes = torch.from_numpy(clip.poses[:, : 3 * len(REST)].astype(np.float64)).unflatten(-1, (len(REST), 3))
    translations = REST.repeat(len(axes), 1, 1)
    translations[:, 0] = torch.from_numpy(clip.trans.astype(np.float64)) + torch.tensor(PELVIS[clip.body.lower()])
    joints, _ = kinematics.forward(translations, rotations.from_axis_angle(axes), HUMANML3D.parents)
    return turned(joints.numpy(), "z"), clip.fps, bool(np.any(clip.betas))


def write_smpl(path: str | Path, motion: SmplMotion, fps: float, body: BodyModel = "smplh") -> None:
    """Write a motion as AMASS does: Z up, poses as axis-angle vectors, for SMPL-H (and SMPL) or SMPL-X."""
    if body not in get_args(BodyModel):
        raise ExportError(f"body model {body!r} is unknown. Choose one of: {', '.join(get_args(BodyModel))}.")
    turns = motion.animation.turns.clone()
    turns[:, 0] = rotations.multiply(TO_Z_UP.expand_as(turns[:, 0]), turns[:, 0])
    poses = torch.zeros(len(turns), JOINTS[body], 3, dtype=turns.dtype)
    poses[:, : turns.shape[1]] = to_axis_angle(turns)
    poses = poses.flatten(1).numpy()
    # SMPL adds trans to the rest position of the pelvis, about which the root turns.
    pelvis = motion.scale * motion.animation.translations[:, 0]
    pelvis[:, 1] += motion.lift
    root = rotations.rotate(TO_Z_UP, pelvis)
    content = {
        "trans": (root - torch.tensor(PELVIS[body], dtype=root.dtype)).numpy(),
        "poses": poses,
        "betas": np.zeros(SHAPES),
        "gender": np.array("neutral"),
        "mocap_framerate": np.array(float(fps)),
    }
    if body == "smplh":
        content["dmpls"] = np.zeros((len(poses), SOFT))
    else:
        parts = np.split(poses, [3, 66, 69, 75], axis=1)
        names = ("root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand")
        content |= dict(zip(names, parts, strict=True))
        content |= {"surface_model_type": np.array("smplx"), "mocap_frame_rate": np.array(float(fps))}
    with atomic_file(Path(path)) as staging, staging.open("wb") as file:
        np.savez_compressed(file, **content)


def to_axis_angle(turns: Tensor) -> Tensor:
    """Axis-angle vectors (..., 3), at most pi long, of rotations (..., 4)."""
    turns = torch.where(turns[..., :1] < 0, -turns, turns)
    sine = turns[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, turns[..., :1])
    return torch.where(sine > 1e-12, angle / sine.clamp(min=1e-12), torch.full_like(sine, 2.0)) * turns[..., 1:]

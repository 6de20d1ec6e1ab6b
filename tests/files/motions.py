"""Motions that the tests of exports share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from adaqf_train.files.animation import Animation, Bones, hinges, rest_directions, solve_rotations
from adaqf_train.motion import kinematics, rotations
from adaqf_train.motion.skeleton import HUMANML3D, Skeleton


def t_pose(skeleton: Skeleton = HUMANML3D) -> torch.Tensor:
    """Offsets (J, 3) of a body of 1.7 m in the T-pose."""
    lengths = skeleton.bone_lengths or [0.25] * (len(skeleton) - 1)
    return rest_directions(skeleton) * torch.tensor((0.0, *lengths), dtype=torch.float64)[:, None]


def posed(angles: dict[int, torch.Tensor], skeleton: Skeleton = HUMANML3D) -> np.ndarray:
    """Joints (T, J, 3) of a body whose joints are turned by axis times angle (T, 3), in the parent's frame."""
    frames = len(next(iter(angles.values())))
    turns = rotations.identity((frames, len(skeleton)), torch.zeros((), dtype=torch.float64))
    for joint, vectors in angles.items():
        turns[:, joint] = rotations.from_axis_angle(vectors.double())
    translations = t_pose(skeleton).expand(frames, -1, -1).clone()
    translations[:, 0, 1] = 1.0
    return kinematics.forward(translations, turns, skeleton.parents)[0].numpy()


def dancer(frames: int = 40, seed: int = 0, skeleton: Skeleton = HUMANML3D) -> np.ndarray:
    """A body of stiff bones that moves every joint smoothly while it turns around and walks off: (T, J, 3), metres."""
    rng = np.random.default_rng(seed)
    time = torch.arange(frames, dtype=torch.float64)[:, None] / 20
    angles = {}
    for joint in range(len(skeleton)):
        size, speed, phase = (torch.from_numpy(rng.uniform(a, b, 3)) for a, b in ((0, 0.7), (1, 4), (0, 6)))
        angles[joint] = size * torch.sin(speed * time + phase)
    for above, axis in hinges(skeleton).items():  # elbows and knees bend one way
        joint = skeleton.parents.index(above)
        angles[joint] = (0.8 + angles[joint][:, :1]) * axis
    angles[0] = torch.cat([0.1 * time, 1.5 * time, 0 * time], dim=1)
    joints = posed(angles, skeleton)
    return joints + time[:, :, None].numpy() * (0.5, 0, 1)


def wobbled(joints: np.ndarray, metres: float, seed: int = 0) -> np.ndarray:
    """The motion as a model makes it: every joint trembles a little, so that bones are not of one length."""
    return joints + np.random.default_rng(seed).normal(0, metres, joints.shape)


def written(
    write: Callable[[Path, Animation, float], None],
    path: Path,
    joints: np.ndarray,
    fps: float,
    skeleton: Skeleton,
    bones: Bones = "rigid",
) -> Animation:
    """Write the animation of a motion (T, J, 3), and return it."""
    animation = solve_rotations(joints, skeleton, bones)
    write(path, animation, fps)
    return animation

"""What bodies do on the ground, measured on bodies whose measures are known. Skating is tested with the metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train.motion.physics import bone_lengths, travelling_speed
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)


def moving(skeleton: Skeleton, lengths: np.ndarray, speed: float, frames: int = 30) -> np.ndarray:
    """A stiff body with these bones that moves along a diagonal of the floor at `speed` m/s: (frames, J, 3)."""
    directions = torch.tensor(skeleton.rest_directions[1:], dtype=torch.float64)
    pose = skeleton.pose_from_directions(torch.zeros(3, dtype=torch.float64), directions, torch.from_numpy(lengths))
    step = speed * skeleton.units_per_metre / skeleton.fps * np.array([0.6, 0.0, 0.8])
    return pose.numpy() + np.arange(frames)[:, None, None] * step


@SKELETONS
def test_bone_lengths_ignore_a_wild_frame(skeleton):
    lengths = np.linspace(0.1, 0.5, len(skeleton) - 1)
    joints = moving(skeleton, lengths, speed=1.0)
    assert np.abs(bone_lengths(joints, skeleton) - lengths).max() < 1e-9
    joints[7] *= 50
    assert np.abs(bone_lengths(joints, skeleton) - lengths).max() < 1e-9
    assert np.abs(bone_lengths(2 * joints, skeleton) - lengths).max() > 0.1  # control


@SKELETONS
@pytest.mark.parametrize("speed", [0.0, 1.3])
def test_travelling_speed_is_in_metres_per_second_along_the_floor(skeleton, speed):
    joints = moving(skeleton, np.full(len(skeleton) - 1, 0.3), speed)
    joints[:, :, 1] += np.arange(len(joints))[:, None]  # rising is not travelling
    assert travelling_speed(joints, skeleton) == pytest.approx(speed, abs=1e-9)

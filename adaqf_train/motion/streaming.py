"""Encode joints as MotionStreamer's 272 features, and decode them.

Implements the public description of Xiao et al. 2025 (`representation_272.py` of 272-dim-Motion-Representation by
Li-xingXiao): 22 joints of SMPL at 30 frames per second, metres, Y up, on the floor, with the root above the origin at
frame 0. Every frame holds the step of the root, the turn of the heading, and joints without place and heading.
"""

from __future__ import annotations

import numpy as np
import torch

from adaqf_train.motion import rotations
from adaqf_train.motion.skeleton import HUMANML3D

WIDTH, FPS = 272, 30.0
_J = len(HUMANML3D)
STEP = slice(0, 2)  # x, z of the root since the frame before, in the heading of that frame, metres
TURN = slice(2, 8)  # 6-d: the first two rows of the matrix of the turn of the heading since the frame before
POSITIONS = slice(8, 8 + 3 * _J)  # joints without the root's x and z and without heading, metres
VELOCITIES = slice(8 + 3 * _J, 8 + 6 * _J)  # differences of POSITIONS since the frame before
ROTATIONS = slice(8 + 6 * _J, 8 + 12 * _J)  # 6-d local rotations; the root's without heading


def decode(features: np.ndarray) -> np.ndarray:
    """Decode features from their positions; the rotations are not needed.

    Args:
        features: (T, 272), de-normalised.

    Returns:
        Joints (T, 22, 3), metres, Y up, float64, at 30 frames per second; frame 0 faces +Z.
    """
    turns = _matrices(features[:, TURN])
    heading = np.empty_like(turns)
    heading[0] = turns[0]
    for frame in range(1, len(turns)):
        heading[frame] = turns[frame] @ heading[frame - 1]
    back = heading.swapaxes(-1, -2)  # from the body's heading to the world
    joints = np.einsum("tij,tnj->tni", back, features[:, POSITIONS].reshape(-1, _J, 3))
    steps = np.zeros((len(features), 3))
    steps[:, [0, 2]] = features[:, STEP]
    steps[1:] = np.einsum("tij,tj->ti", back[:-1], steps[1:])
    joints[..., [0, 2]] += steps.cumsum(axis=0)[:, None, [0, 2]]
    return joints


def encode(joints: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Encode joints and rotations; `decode` returns the joints on the floor, turned so that frame 0 faces +Z.

    Args:
        joints: Positions (T, 22, 3), metres, Y up, at 30 frames per second.
        turns: Quaternions (T, 22, 4), local rotations from a T-pose that faces +Z, as SMPL's; the root's gives the
            heading.

    Returns:
        Features (T, 272), float64, not normalised.
    """
    joints = np.asarray(joints, dtype=np.float64)
    floor = np.array([joints[0, 0, 0], joints[..., 1].min(), joints[0, 0, 2]])
    joints = joints - floor
    local = _matrix(turns)  # (T, 22, 3, 3)
    yaw = -np.arctan2(local[:, 0, 0, 2], local[:, 0, 2, 2])
    heading = _about_y(yaw)
    centred = joints - joints[:, :1] * [1, 0, 1]
    positions = np.einsum("tij,tnj->tni", heading, centred)
    local = local.copy()
    local[:, 0] = heading @ local[:, 0]
    features = np.zeros((len(joints), WIDTH))
    features[0, [2, 6]] = 1
    features[1:, TURN] = _about_y(np.diff(yaw))[:, :2].reshape(-1, 6)
    features[1:, STEP] = np.einsum("tij,tj->ti", heading[:-1], np.diff(joints[:, 0], axis=0))[:, [0, 2]]
    features[:, POSITIONS] = positions.reshape(len(joints), -1)
    features[1:, VELOCITIES] = np.diff(positions, axis=0).reshape(len(joints) - 1, -1)
    features[:, ROTATIONS] = local[..., :2, :].reshape(len(joints), -1)
    return features


def _matrix(turns: np.ndarray) -> np.ndarray:
    """Quaternions (..., 4) -> matrices (..., 3, 3)."""
    q = torch.from_numpy(np.ascontiguousarray(turns))
    axes = torch.eye(3, dtype=q.dtype)
    return torch.stack([rotations.rotate(q, axis) for axis in axes], dim=-1).numpy()


def _matrices(six: np.ndarray) -> np.ndarray:
    """Two rows (..., 6) -> matrices (..., 3, 3), made orthonormal (Zhou et al. 2019)."""
    a, b = six[..., :3], six[..., 3:]
    a = a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-8)
    b = b - (a * b).sum(-1, keepdims=True) * a
    b = b / np.maximum(np.linalg.norm(b, axis=-1, keepdims=True), 1e-8)
    return np.stack([a, b, np.cross(a, b)], axis=-2)


def _about_y(angles: np.ndarray) -> np.ndarray:
    """Matrices (T, 3, 3) of turns about +Y."""
    cos, sin, zero, one = np.cos(angles), np.sin(angles), np.zeros_like(angles), np.ones_like(angles)
    return np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1).reshape(-1, 3, 3)

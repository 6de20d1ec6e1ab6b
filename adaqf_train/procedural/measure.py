"""Measurements of the joints against which the words of a caption can be checked."""

from __future__ import annotations

import numpy as np

from adaqf_train.procedural.body import JOINT
from adaqf_train.procedural.timeline import FPS


def heading(joints: np.ndarray) -> np.ndarray:
    """Yaw of the hip line in degrees, unwrapped, 0 facing +Z and positive to the left: (T, 22, 3) -> (T,)."""
    across = joints[:, JOINT["left_hip"]] - joints[:, JOINT["right_hip"]]
    return np.degrees(np.unwrap(np.arctan2(-across[:, 2], across[:, 0])))


def measure(joints: np.ndarray, facts: dict, start: int, end: int) -> dict[str, float]:
    """Measure the speed, displacement and turn of an action between two frames of joints (T, 22, 3).

    speed_mps is the median over the middle half, without start and stop.
    """
    action, found = facts["action"], {}
    root = joints[:, 0][:, (0, 2)]
    yaw = heading(joints)
    if action in ("walk", "run", "sidestep"):
        quarter = (end - start) // 4
        pace = np.linalg.norm(np.diff(root[start + quarter : end - quarter + 1], axis=0), axis=-1) * FPS
        found["speed_mps"] = round(float(np.median(pace)), 3)
    if action in ("walk", "run", "sidestep", "jump"):
        found["distance_m"] = round(float(np.linalg.norm(root[end] - root[start])), 3)
    if "angle_deg" in facts:
        found["turned_deg"] = round(float(yaw[end] - yaw[start]), 1)
    if action in ("bow", "crouch", "sit", "stand_up", "sit_stand", "jump"):
        height = joints[start : end + 1, JOINT["head"], 1]
        found["head_range_m"] = round(float(height.max() - height.min()), 3)
    return found

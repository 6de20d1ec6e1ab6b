"""The camera of pages and pictures: near, in front of the body, with the whole motion in view."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaqf_train.motion.skeleton import skeleton_of

ASPECT = 1.1  # width / height of every canvas; page.css has the same number
FIELD_OF_VIEW = 0.5  # radians, vertical; narrow, so that a body keeps its proportions wherever it stands
PITCH = 0.25  # radians the camera looks down: enough to read paths and footprints on the floor
MARGIN = 0.95  # largest share of the canvas that the motion fills
ROOM = 0.21  # metres left free around every joint: the crown is that far above the joint of the head
NEAREST = 0.1  # metres; points closer to the eye are projected as if they were this far away


def camera(clips: Sequence[np.ndarray], aspect: float = ASPECT) -> dict[str, Any]:
    """Find the view that motions (T, J, 3) share: from in front, at the angle that brings them closest.

    It has yaw and pitch in radians (yaw 0 looks from +Z), the target point (3,), the distance from it in metres, and
    the radius in metres of the ground that the motion covers around the target.
    """
    seen = []
    for clip in clips:
        moments = clip[np.unique(np.linspace(0, len(clip) - 1, 40).astype(int))]
        seen += [moments.reshape(-1, 3), moments[:, 0] * (1, 0, 1)]
    points = np.concatenate(seen)
    skeleton = skeleton_of(clips[0].shape[1])
    across = clips[0][0, skeleton.left_hip] - clips[0][0, skeleton.right_hip]
    front = math.atan2(-across[2], across[0])  # across turned by 90 degrees, as an angle from +Z

    views = []
    for turn in np.radians((30, -30, 45, -45, 60, -60, 75, -75)):
        target, distance = _fitted(points, front + turn, aspect)
        views.append((distance * (1 + 0.25 * abs(turn)), front + turn, target, distance))
    _, yaw, target, distance = min(views, key=lambda view: view[0])
    return {
        "yaw": round(float(yaw), 3),
        "pitch": PITCH,
        "target": target.round(3).tolist(),
        "distance": round(distance, 3),
        "ground": round(max(2.0, float(np.linalg.norm((points - target)[:, [0, 2]], axis=1).max())), 2),
    }


def camera_axes(yaw: float, pitch: float = PITCH) -> np.ndarray:
    """Axes of the camera as rows (3, 3): right, up, towards the eye."""
    sin, cos, rise, level = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    return np.array(((cos, 0, -sin), (-sin * rise, level, -cos * rise), (sin * level, rise, cos * level)))


def project(points: np.ndarray, view: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Places (..., 2) of points (..., 3) on a picture of height -1 to 1, and the size of a metre there (...)."""
    local = (points - view["target"]) @ camera_axes(view["yaw"], view["pitch"]).T
    depth = np.maximum(view["distance"] - local[..., 2], NEAREST)
    scale = 1 / (math.tan(FIELD_OF_VIEW / 2) * depth)
    return local[..., :2] * scale[..., None], scale


def _fitted(points: np.ndarray, yaw: float, aspect: float) -> tuple[np.ndarray, float]:
    """Target (3,) and distance of the nearest camera that has all points (P, 3) in view, with ROOM around them.

    In the camera's axes (x right, y up, z towards the eye) a point is inside the left and right edges when
    |x - eye_x| + ROOM <= slope * (eye_z - z): linear in the eye, so each pair of edges has a closed solution.
    """
    axes = camera_axes(yaw)
    x, y, z = axes @ points.T
    eye, depths = [], []
    slope = MARGIN * math.tan(FIELD_OF_VIEW / 2)
    for side, slope_here in ((x, aspect * slope), (y, slope)):
        high, low = (side + slope_here * z).max() + ROOM, (-side + slope_here * z).max() + ROOM
        eye.append((high - low) / 2)
        depths.append((high + low) / 2 / slope_here)
    middle = (z.min() + z.max()) / 2
    return np.array((*eye, middle)) @ axes, float(max(depths) - middle)

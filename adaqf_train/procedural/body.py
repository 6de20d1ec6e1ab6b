"""The rig: 22 joints from pose channels (forward kinematics) and foot tracks (inverse kinematics).

Frames: Y up, heading 0 faces +Z, the person's left is +X at heading 0, positive yaw turns left. Angles are in
degrees, lengths in metres. The sign of the left side is +1, that of the right -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaqf_train.motion.skeleton import HUMANML3D

LENGTH = np.array((0.0, *HUMANML3D.bone_lengths))  # LENGTH[j] is the bone that ends in joint j
JOINT = {name: index for index, name in enumerate(HUMANML3D.joints)}
SIDES = ("left", "right")
SIGN = {"left": 1.0, "right": -1.0}
OTHER = {"left": "right", "right": "left"}

TOE_HEIGHT = 0.022  # of a flat foot, above the floor
ANKLE_HEIGHT = 0.066
REACH = 0.988  # share of the leg's length that a stance leg may span, so that no knee locks
HARD_REACH = 0.994  # share at which inverse kinematics clamps
ENVELOPE = 2  # frames on either side over which the pelvis sinks when a leg would not reach

CHANNELS = (
    *("lift", "shift_forward", "shift_left"),  # pelvis displacement in the heading frame, metres
    *("pelvis_pitch", "pelvis_roll", "pelvis_yaw"),  # pitch > 0 bows, roll > 0 leans left, yaw > 0 turns left
    *("spine_pitch", "spine_roll", "spine_yaw", "head_pitch", "head_yaw"),
    *(f"{side}_{angle}" for side in SIDES for angle in ("swing", "abduct", "twist", "elbow", "shrug")),
)
# Of a foot that leaves its plant and returns: metres, metres, degrees.
FREE_CHANNELS = tuple(f"{side}_{free}" for side in SIDES for free in ("ahead", "rise", "point"))

# Bone directions of a person standing at ease, close to those of the official clips.
_TRUNK = {"spine1": (0, 0.96, -0.24), "spine2": (0, 0.98, 0.14), "spine3": (0, 0.99, 0.1), "neck": (0, 0.99, -0.12)}
_HEAD = (0, 0.91, 0.41)
_COLLAR = (0.52, 0.85, -0.06)
_SHOULDER = (0.90, -0.42, -0.10)
_LEFT_HIP_DROP = 0.079  # the right leg is shorter, so its hip hangs lower: both feet reach the floor
_CHAINS = {side: tuple(JOINT[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "foot")) for side in SIDES}
LEG_LENGTH = {side: LENGTH[_CHAINS[side][1]] + LENGTH[_CHAINS[side][2]] for side in SIDES}
FLAT_PITCH = {
    side: float(np.degrees(np.arcsin((ANKLE_HEIGHT - TOE_HEIGHT) / LENGTH[_CHAINS[side][3]]))) for side in SIDES
}
_HIP_DROP = {"left": _LEFT_HIP_DROP, "right": _LEFT_HIP_DROP + LEG_LENGTH["left"] - LEG_LENGTH["right"]}
_HIP = {  # positions in the pelvis frame
    side: np.array((SIGN[side] * np.sqrt(LENGTH[_CHAINS[side][0]] ** 2 - drop**2), -drop, 0.0))
    for side, drop in _HIP_DROP.items()
}
STANDING_HEIGHT = ANKLE_HEIGHT + 0.986 * LEG_LENGTH["left"] + _LEFT_HIP_DROP  # of the pelvis; knees slightly soft


@dataclass
class FootTrack:
    """The path of a foot in the world."""

    ankle: np.ndarray  # (T, 3)
    yaw: np.ndarray  # (T,)
    pitch: np.ndarray  # (T,) of the ankle-toe line below the horizontal
    free: np.ndarray  # (T,) bool: in the air while the body stands on the other foot, so the pelvis need not sink


def _unit(vector: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    vector = np.asarray(vector, dtype=float)
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def rotation(axis: str, degrees: np.ndarray) -> np.ndarray:
    """Right-handed rotations about a coordinate axis: (T,) -> (T, 3, 3)."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*angle.shape, 3, 3))
    i, j, k = {"x": (0, 1, 2), "y": (1, 2, 0), "z": (2, 0, 1)}[axis]
    matrix[..., i, i] = 1
    matrix[..., j, j] = matrix[..., k, k] = cos
    matrix[..., k, j], matrix[..., j, k] = sin, -sin
    return matrix


def facing(yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit forward and left vectors of a yaw: (T,) -> (T, 3), (T, 3)."""
    angle = np.radians(yaw)
    zero = np.zeros_like(angle)
    return np.stack((np.sin(angle), zero, np.cos(angle)), -1), np.stack((np.cos(angle), zero, -np.sin(angle)), -1)


def solve(
    channels: dict[str, np.ndarray], path: np.ndarray, heading: np.ndarray, feet: dict[str, FootTrack]
) -> np.ndarray:
    """Joints (T, 22, 3) from tracks (T,) by channel, root path (T, 2) as world x and z, heading (T,) and feet."""
    forward, left = facing(heading)
    pelvis = np.stack((path[:, 0], STANDING_HEIGHT + channels["lift"], path[:, 1]), -1)
    pelvis += channels["shift_forward"][:, None] * forward + channels["shift_left"][:, None] * left
    base = (
        rotation("y", heading + channels["pelvis_yaw"])
        @ rotation("x", channels["pelvis_pitch"])
        @ rotation("z", -channels["pelvis_roll"])
    )
    hips = {side: base @ _HIP[side] for side in SIDES}
    pelvis[:, 1] -= _lowering(pelvis, hips, feet)

    joints = np.empty((len(heading), len(HUMANML3D), 3))
    joints[:, JOINT["pelvis"]] = pelvis
    chest = _trunk(joints, base, channels)
    for side in SIDES:
        _arm(joints, chest, channels, side)
        _leg(joints, pelvis + hips[side], heading + channels["pelvis_yaw"], feet[side], side)
    return joints


def _lowering(pelvis: np.ndarray, hips: dict[str, np.ndarray], feet: dict[str, FootTrack]) -> np.ndarray:
    """Distance (T,) by which the pelvis must sink for both legs to reach their ankles.

    A moving maximum followed by a moving mean over the same window is smooth and nowhere below the demand.
    """
    demand = np.zeros(len(pelvis))
    for side in SIDES:
        hip = pelvis + hips[side]
        away = np.linalg.norm((hip - feet[side].ankle)[:, (0, 2)], axis=-1)
        span = REACH * LEG_LENGTH[side]
        allowed = feet[side].ankle[:, 1] + np.sqrt(np.maximum(span**2 - away**2, (0.3 * span) ** 2))
        demand = np.maximum(demand, (hip[:, 1] - allowed) * ~feet[side].free)
    padded = np.pad(demand, 2 * ENVELOPE, mode="edge")
    width = 2 * ENVELOPE + 1
    highest = np.lib.stride_tricks.sliding_window_view(padded, width).max(-1)
    return np.lib.stride_tricks.sliding_window_view(highest, width).mean(-1)


def _trunk(joints: np.ndarray, base: np.ndarray, channels: dict[str, np.ndarray]) -> np.ndarray:
    """Fill spine, neck and head; return the chest's orientation (T, 3, 3)."""
    third = (
        rotation("y", channels["spine_yaw"] / 3)
        @ rotation("x", channels["spine_pitch"] / 3)
        @ rotation("z", -channels["spine_roll"] / 3)
    )
    frame, parent = base, JOINT["pelvis"]
    for name in ("spine1", "spine2", "spine3"):
        frame = frame @ third
        joints[:, JOINT[name]] = joints[:, parent] + LENGTH[JOINT[name]] * (frame @ _unit(_TRUNK[name]))
        parent = JOINT[name]
    half = rotation("y", channels["head_yaw"] / 2) @ rotation("x", channels["head_pitch"] / 2)
    neck = frame @ half
    joints[:, JOINT["neck"]] = joints[:, parent] + LENGTH[JOINT["neck"]] * (neck @ _unit(_TRUNK["neck"]))
    joints[:, JOINT["head"]] = joints[:, JOINT["neck"]] + LENGTH[JOINT["head"]] * (neck @ half @ _unit(_HEAD))
    return frame


def _arm(joints: np.ndarray, chest: np.ndarray, channels: dict[str, np.ndarray], side: str) -> None:
    """Fill collar, shoulder, elbow and wrist.

    swing raises the arm forward, abduct sideways; twist > 0 turns it outward about its own axis; elbow bends the
    forearm forward, or up when the arm is raised forward. The shoulder girdle rises with a raised arm.
    """
    sign, mirror = SIGN[side], np.array((SIGN[side], 1.0, 1.0))
    swing, abduct, twist, elbow, shrug = (
        channels[f"{side}_{a}"] for a in ("swing", "abduct", "twist", "elbow", "shrug")
    )
    raised = np.clip((np.maximum(swing, abduct) - 60) / 90, 0, 1)
    girdle = chest @ rotation("z", sign * (shrug + 16 * raised))
    collar, shoulder, elbow_joint, wrist = (JOINT[f"{side}_{p}"] for p in ("collar", "shoulder", "elbow", "wrist"))
    joints[:, collar] = joints[:, JOINT["spine3"]] + LENGTH[collar] * (chest @ (mirror * _unit(_COLLAR)))
    joints[:, shoulder] = joints[:, collar] + LENGTH[shoulder] * (girdle @ (mirror * _unit(_SHOULDER)))
    upper = chest @ rotation("z", sign * abduct) @ rotation("x", -swing) @ rotation("y", sign * twist)
    bend = np.radians(elbow)
    forearm = np.stack((np.zeros_like(bend), -np.cos(bend), np.sin(bend)), -1)
    joints[:, elbow_joint] = joints[:, shoulder] - LENGTH[elbow_joint] * upper[:, :, 1]
    joints[:, wrist] = joints[:, elbow_joint] + LENGTH[wrist] * (upper @ forearm[..., None])[..., 0]


def _leg(joints: np.ndarray, hip: np.ndarray, yaw: np.ndarray, foot: FootTrack, side: str) -> None:
    """Fill hip, knee, ankle and toe: two-bone inverse kinematics, the knee in the plane that faces forward."""
    hip_joint, knee_joint, ankle_joint, toe_joint = _CHAINS[side]
    thigh, shank = LENGTH[knee_joint], LENGTH[ankle_joint]
    leg_yaw = yaw + 0.5 * (foot.yaw - yaw)  # a knee points between the pelvis and the foot
    _, left = facing(leg_yaw)
    span = foot.ankle - hip
    distance = np.maximum(np.linalg.norm(span, axis=-1, keepdims=True), 1e-6)
    axis = span / distance
    distance = np.clip(distance, abs(thigh - shank) + 0.02, HARD_REACH * (thigh + shank))
    along = (distance**2 + thigh**2 - shank**2) / (2 * distance)
    bulge = np.sqrt(np.maximum(thigh**2 - along**2, 0))
    knee = hip + along * axis + bulge * _unit(np.cross(axis, left))
    ankle = hip + distance * axis

    aim, _ = facing(foot.yaw)
    slope = np.radians(foot.pitch)[:, None]
    joints[:, hip_joint], joints[:, knee_joint], joints[:, ankle_joint] = hip, knee, ankle
    joints[:, toe_joint] = ankle + LENGTH[toe_joint] * (np.cos(slope) * aim - np.sin(slope) * np.array((0, 1.0, 0)))

"""The data that a page's player reads: motions as text, bodies, footprints and cameras."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adaqf_train.motion.skeleton import Skeleton, skeleton_of
from adaqf_train.render.camera import FIELD_OF_VIEW, camera
from adaqf_train.render.flesh import body, relative_size

STEP = 0.001  # metres; a millimetre is well under a pixel at any sensible zoom
FARTHEST = 500.0  # metres from the origin; positions farther away are in millimetres
CONTACT_HEIGHT = 0.05  # metres above the floor; toe joints of a flat foot are 2 to 4.5 cm above it
CONTACT_SPEED = 0.5  # metres per second


@dataclass(frozen=True)
class Take:
    """One motion in a scene."""

    label: str  # name above the motion, such as "ground truth" or "AdaQF"
    joints: np.ndarray  # (T, J, 3), metres, Y up, the floor at y = 0; J = 22 (HumanML3D) or 21 (KIT-ML)
    note: str = ""  # small text after the label
    metrics: Mapping[str, str] = field(default_factory=dict)  # shown after the motion's own length, path and skating


@dataclass(frozen=True)
class Scene:
    """One caption and the takes to compare on it, which share a camera."""

    caption: str
    takes: tuple[Take, ...]
    more: tuple[str, ...] = ()  # other captions of the same motion, in small text


def checked(scenes: Sequence[Scene]) -> list[list[np.ndarray]]:
    """Motions of every scene as float64 (T, J, 3); a ValueError names the scene and the take that cannot be shown."""
    if not scenes:
        raise ValueError("No scenes: a page needs at least one Scene, with at least one Take.")
    clips = []
    for index, scene in enumerate(scenes):
        where = f"Scene {index} ({_shortened(scene.caption)})"
        if not scene.takes:
            raise ValueError(f"{where} has no takes: give it at least one Take, or remove the scene.")
        places = (f"{where}, take {number} ({_shortened(take.label)})" for number, take in enumerate(scene.takes))
        clips.append([checked_joints(take.joints, place) for take, place in zip(scene.takes, places, strict=True)])
    return clips


def payload(clips: Sequence[Sequence[np.ndarray]], fps: float) -> dict[str, Any]:
    """Collect what the player reads; clips[scene][take] are checked joints (T, J, 3) in metres."""
    skeletons = {clip.shape[1]: skeleton_of(clip.shape[1]) for scene in clips for clip in scene}

    def packed(joints: np.ndarray) -> dict[str, Any]:
        skeleton = skeletons[joints.shape[1]]
        return {
            "frames": joints.shape[0],
            "joints": joints.shape[1],
            "size": round(float(np.clip(relative_size(joints, skeleton), 0.3, 3.0)), 3),
            "contacts": contacts(joints, skeleton, fps),
            "data": pack(joints),
        }

    return {
        "fps": fps,
        "step": STEP,
        "fieldOfView": FIELD_OF_VIEW,
        "bodies": {str(joints): body(skeleton) for joints, skeleton in skeletons.items()},
        "scenes": [{"camera": camera(scene), "takes": [packed(clip) for clip in scene]} for scene in clips],
    }


def contacts(joints: np.ndarray, skeleton: Skeleton, fps: float) -> list[list[int]]:
    """Contacts with the ground of a motion (T, J, 3), metres: [foot, first frame, last frame]; foot 0 is the left.

    A foot stands while its toe is lower than CONTACT_HEIGHT and slower than CONTACT_SPEED.
    """
    found = []
    for foot, (_, toe) in enumerate((skeleton.left_foot, skeleton.right_foot)):
        path = joints[:, toe]
        speed = np.linalg.norm(np.gradient(path, 1 / fps, axis=0), axis=-1) if len(path) > 1 else np.zeros(1)
        stands = (path[:, 1] < CONTACT_HEIGHT) & (speed < CONTACT_SPEED)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], stands, [False]))))
        found += [[foot, int(first), int(end) - 1] for first, end in edges.reshape(-1, 2)]
    return found


def pack(joints: np.ndarray) -> str:
    """Encode positions (T, J, 3) as base64 of zigzag varints: second differences between frames, in whole STEPs.

    The positions are rounded before they are differenced, so errors do not add up: each is at most half a STEP.
    The speed of a body changes little from frame to frame, however fast it runs: nearly every number fits one byte,
    and the text is two thirds as long as with plain int16.
    """
    steps = np.rint(np.asarray(joints, dtype=np.float64) / STEP).astype(np.int64)
    change = np.diff(np.diff(steps, axis=0, prepend=0), axis=0, prepend=0).reshape(-1)
    zigzag = (change << 1) ^ (change >> 63)  # 0, -1, 1, -2 … become 0, 1, 2, 3 …
    place = np.arange(5)  # 5 groups of 7 bits hold any 32-bit number
    last = (zigzag[:, None] >= 128 ** place[1:]).sum(axis=1, keepdims=True)
    groups = (zigzag[:, None] >> (7 * place)) & 127 | np.where(place < last, 128, 0)
    return base64.b64encode(groups[place <= last].astype(np.uint8).tobytes()).decode("ascii")


def checked_joints(joints: Any, where: str) -> np.ndarray:
    """A motion as float64 (T, J, 3); a ValueError that begins with `where` if it is not finite joints in metres."""
    try:
        joints = np.asarray(joints, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: joints are not an array of numbers ({error}). Expected (T, J, 3).") from error
    if joints.ndim != 3 or joints.shape[2] != 3 or joints.shape[0] == 0:
        raise ValueError(
            f"{where}: joints have shape {joints.shape}, expected (T, J, 3) with at least one frame. "
            "Convert features with motion.features.decode first; pass the clips of a batch one by one."
        )
    try:
        skeleton_of(joints.shape[1])
    except ValueError as error:
        raise ValueError(f"{where}: {error} Choose or retarget the joints first.") from error
    bad = ~np.isfinite(joints).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"{where}: {bad.sum()} of {len(bad)} frames hold NaN or infinity, the first is frame {bad.argmax()}. "
            "Did the model diverge?"
        )
    farthest = np.abs(joints).max()
    if farthest > FARTHEST:
        raise ValueError(
            f"{where}: a joint is {farthest:.0f} m from the origin. Millimetres? Divide by 1000; expected metres."
        )
    return joints


def _shortened(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[: width - 3] + "...")

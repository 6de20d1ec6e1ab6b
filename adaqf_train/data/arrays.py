"""Arrays of motion in the layouts that programs write, as clips of joints or features."""

from __future__ import annotations

import numpy as np

from adaqf_train.errors import DataError
from adaqf_train.motion import streaming
from adaqf_train.motion.skeleton import HUMANML3D, KIT

BODIES = {22: 22, 21: 21, 24: 22, 45: 22, 52: 22, 55: 22, 73: 22, 127: 22, 144: 22}
"""Joints of an array -> joints of its body. The first 22 of SMPL, SMPL-H and SMPL-X are HumanML3D's."""
FLAT = {3 * joints: joints for joints in (22, 21, 24, 52)}
WIDTHS = (HUMANML3D.features, KIT.features, streaming.WIDTH)
JOINTS = (
    "joints (frames, 22 or 21, 3), also of SMPL's 24 to 144 joints, flat (frames, 66), or as MDM's (clips, 22, 3, "
    "frames)"
)
TRANSPOSE = "Transpose an array whose axes are in another order."


def as_clips(array: np.ndarray, where: object) -> list[np.ndarray]:
    """Clips of an array in any usual layout.

    Returns:
        Joints (T, 22 | 21, 3) or features (T, 263 | 251 | 272), float64; one clip, or those of a batch.

    Raises:
        DataError: The shape is none of them; the message names `where`.
    """
    if array.ndim in (2, 3) and array.shape[-1] in WIDTHS:
        return list(array[None].astype(np.float64) if array.ndim == 2 else array.astype(np.float64))
    if (joints := _joints(array)) is None:
        raise DataError(
            f"{where}: shape {array.shape}, expected {JOINTS}, or features (frames, 263, 251 or 272); one clip or a "
            f"batch of them. {TRANSPOSE}"
        )
    return list(joints[None] if joints.ndim == 3 else joints)


def as_joints(array: np.ndarray, where: object) -> np.ndarray:
    """The joints (T, 22 | 21, 3), float64, of an array of one clip; DataError for features and batches."""
    joints = _joints(array)
    if joints is not None and joints.ndim == 4 and len(joints) == 1:
        joints = joints[0]
    if joints is None or joints.ndim != 3:
        features = array.ndim == 2 and array.shape[-1] in WIDTHS
        remedy = "These are features: make joints of them with adaqf convert." if features else TRANSPOSE
        batch = " Save the clips of a batch one by one." if joints is not None else ""
        raise DataError(
            f"{where}: shape {array.shape}, expected joint positions of one clip: {JOINTS}.{batch} {remedy}"
        )
    return joints


def without_padding(array: np.ndarray, where: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """The frames (T, ...) before an all-zero tail, as padded batches have, and a note on what was cut.

    DataError if every frame is zero, or there is none.
    """
    if not len(array):
        raise DataError(f"{where}: no frames. Create the file again.")
    used = np.flatnonzero(array.reshape(len(array), -1).any(axis=1))
    if not len(used):
        raise DataError(f"{where}: every frame is zero. Create the file again.")
    padding = len(array) - 1 - int(used[-1])
    note = f"{padding} frames of zeros at the end are padding, and cut"
    return array[: len(array) - padding], (note,) if padding else ()


def _joints(array: np.ndarray) -> np.ndarray | None:
    """Joints (..., T, 22 | 21, 3), float64, of an array of one clip or a batch; None for another shape."""
    shape = array.shape
    if array.ndim in (2, 3) and shape[-1] in FLAT:
        array = array.reshape(*shape[:-1], FLAT[shape[-1]], 3)
    elif array.ndim in (3, 4) and shape[-2] == 3 and shape[-3] in BODIES:
        array = np.moveaxis(array, -1, -3)
    elif not (array.ndim in (3, 4) and shape[-1] == 3 and shape[-2] in BODIES):
        return None
    return array[..., : BODIES[array.shape[-2]], :].astype(np.float64)

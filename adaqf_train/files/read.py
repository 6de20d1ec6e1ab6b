"""Read motions from .npy files: joints or features, one clip or a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from adaqf_train.data.clips import load_array
from adaqf_train.errors import ExportError
from adaqf_train.motion import features
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton, skeleton_of, skeleton_of_width

GIANT = 5.0  # metres; no body is taller, even with its arms stretched up
TALLEST = 20.0  # metres; a taller KIT-ML skeleton is in the data set's own units, 640 per metre


def read_motions(path: Path) -> list[np.ndarray]:
    """Read the joints (T, J, 3), metres, Y up, float64, of every clip in a .npy file.

    The file holds joints (T, J, 3) or (N, T, J, 3), J = 22 or 21, or de-normalised features (T, D) or (N, T, D), D =
    263 or 251. KIT-ML's joints are in metres or in the data set's own units.
    """
    clips, skeleton, are_features = _read(path)
    if are_features:
        return [features.decode(clip) / skeleton.units_per_metre for clip in clips]
    return [_metres(clip, skeleton, path) for clip in clips]


def read_features(path: Path) -> list[np.ndarray]:
    """Read the de-normalised features (T, D) of every clip; T joints become T - 1 rows. See `read_motions`."""
    clips, skeleton, are_features = _read(path)
    if are_features:
        return clips
    if min(map(len, clips)) < 2:
        raise ExportError(f"{path}: a clip has only one frame, but features hold velocities. Give at least two frames.")
    return [features.encode(_metres(clip, skeleton, path) * skeleton.units_per_metre) for clip in clips]


def _read(path: Path) -> tuple[list[np.ndarray], Skeleton, bool]:
    """Clips as float64, their skeleton, and whether they are features."""
    if not path.is_file():
        raise ExportError(f"{path}: no such file. Give a .npy file of joints or features.")
    try:
        with path.open("rb") as file:
            is_array = file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror}). Give another file.") from error
    if not is_array:
        raise ExportError(
            f"{path}: not a .npy file. Give a .npy file of joints or features. Save an array of an archive (.npz) with "
            "numpy.save first."
        )
    array = load_array(path)
    if array.ndim in (2, 3) and array.shape[-1] in (HUMANML3D.features, KIT.features):
        skeleton, single = skeleton_of_width(array.shape[-1]), array.ndim == 2
    elif array.ndim in (3, 4) and array.shape[-1] == 3 and array.shape[-2] in (len(HUMANML3D), len(KIT)):
        skeleton, single = skeleton_of(array.shape[-2]), array.ndim == 3
    else:
        raise ExportError(
            f"{path}: shape {array.shape}, expected joints (frames, 22 or 21, 3) or features (frames, 263 or 251), "
            "one clip or a batch of them. Transpose an array whose axes are in another order."
        )
    if array.size == 0 or not np.isfinite(array).all():
        fault = "no frames" if array.size == 0 else "NaN or infinite values"
        raise ExportError(f"{path}: {fault}. Create the file again.")
    array = array.astype(np.float64)
    return list(array[None] if single else array), skeleton, array.shape[-1] != 3


def _metres(joints: np.ndarray, skeleton: Skeleton, path: Path) -> np.ndarray:
    tall = float(np.median(np.ptp(joints, axis=1).max(axis=-1)))
    if skeleton is HUMANML3D and tall > GIANT:
        raise ExportError(f"{path}: a body {tall:.0f} m tall: centimetres or millimetres? Divide by 100 or 1000.")
    return joints / skeleton.units_per_metre if tall > TALLEST else joints

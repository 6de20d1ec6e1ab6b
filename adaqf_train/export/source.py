"""Motions from .npy files as people have them: joints or features, one clip or a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaqf_train.data.clips import load_array
from adaqf_train.export.save import ExportError
from adaqf_train.motion import features
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton, skeleton_of, skeleton_of_width

TALLEST = 20.0  # metres; a KIT-ML skeleton taller than that is in the data set's own units, 640 a metre


def read_motions(path: Path) -> list[np.ndarray]:
    """Joints (T, J, 3), metres, of every clip in a .npy file.

    The file holds joints (T, J, 3) or (N, T, J, 3), J = 22 or 21, or de-normalised features (T, D) or (N, T, D), D =
    263 or 251, float, KIT-ML's in metres or in its own units. Errors name the file and what was found.
    """
    array = load_array(path)
    if array.ndim in (2, 3) and array.shape[-1] in (HUMANML3D.features, KIT.features):
        skeleton = skeleton_of_width(array.shape[-1])
        clips = [_finite(path, clip) for clip in (array if array.ndim == 3 else array[None])]
        return [features.decode(clip.astype(np.float64)) / skeleton.units_per_metre for clip in clips]
    if array.ndim in (3, 4) and array.shape[-1] == 3 and array.shape[-2] in (len(HUMANML3D), len(KIT)):
        skeleton = skeleton_of(array.shape[-2])
        clips = [_finite(path, clip) for clip in (array if array.ndim == 4 else array[None])]
        return [_metres(clip.astype(np.float64), skeleton) for clip in clips]
    raise ExportError(
        f"{path}: shape {array.shape}, expected joints (frames, 22 or 21, 3) or features (frames, 263 or 251), "
        "one clip or a batch of them. In another order? Transpose it."
    )


def _finite(path: Path, clip: np.ndarray) -> np.ndarray:
    if len(clip) == 0 or not np.isfinite(clip).all():
        what = "no frames" if len(clip) == 0 else "NaN or infinite values"
        raise ExportError(f"{path}: {what}. Remove the clip, or write it again.")
    return clip


def _metres(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    tall = float(np.median(np.ptp(joints, axis=1).max(axis=-1)))
    return joints / skeleton.units_per_metre if tall > TALLEST else joints

"""Editing by inpainting: the known part of a motion is restored at every step, and the rest fits it (MDM, section 4).

Source of the method: Tevet et al. 2023, `sample/edit.py` of GuyTevet/motion-diffusion-model.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adaqf_train.errors import ConfigError
from adaqf_train.generators.diffusion import Predict
from adaqf_train.motion import features
from adaqf_train.motion.skeleton import Skeleton

BodyPart = Literal["upper_body", "lower_body"]
Keep = BodyPart | slice | Sequence[slice]


def inpainted(predict: Predict, known: Tensor, keep: Tensor) -> Predict:
    """The prediction with x0 = known wherever keep. known: (B, T, D) normalised; keep: the same, or broadcastable."""
    return lambda x, t: torch.where(keep, known, predict(x, t))


def known_features(motion: np.ndarray, skeleton: Skeleton, unit_frames: int) -> Tensor:
    """Whole units of de-normalised features (T, D), float32, of joints (T, J, 3) in metres or of features (T, D).

    ConfigError for any other shape, NaN or infinity, and anything but an array of numbers.
    """
    try:
        array = np.asarray(motion, dtype=np.float32)
    except (TypeError, ValueError):
        raise ConfigError(
            f"motion must be an array of joints (T, {len(skeleton)}, 3) or features (T, {skeleton.features}), got "
            f"{type(motion).__name__}. Load a file with numpy.load."
        ) from None
    if array.ndim == 3 and array.shape[1:] == (len(skeleton), 3) and len(array) > 1:
        array = features.encode(array * np.float32(skeleton.units_per_metre))
    if array.ndim != 2 or array.shape[1] != skeleton.features or not np.isfinite(array).all():
        raise ConfigError(
            f"motion must be finite joints (T, {len(skeleton)}, 3) or features (T, {skeleton.features}), got shape "
            f"{np.shape(motion)}."
        )
    return torch.from_numpy(array[: len(array) // unit_frames * unit_frames])


def kept_features(keep: Keep, skeleton: Skeleton, frames: int) -> Tensor:
    """(frames, D) bool, True = kept. ConfigError for anything but a part of the body or frames of the motion.

    "lower_body" includes the root's path, the legs and the foot contacts; "upper_body" all other joints. Frames are
    kept whole.
    """
    where = features.Slices.of(skeleton)
    kept = torch.zeros(frames, skeleton.features, dtype=torch.bool)
    parts = [keep] if isinstance(keep, slice) else keep
    if not (isinstance(keep, str) and keep in get_args(BodyPart)) and not (
        isinstance(parts, list | tuple) and all(_is_frames(part) for part in parts)
    ):
        raise ConfigError(
            "keep must be 'upper_body', 'lower_body' or slices of frames, of whole numbers and with steps of at least "
            f"1, got {repr(keep)[:80]}."
        )
    if isinstance(keep, str):
        lower = _below_the_spine(skeleton)
        joints = [joint for joint in range(len(skeleton)) if (joint in lower) == (keep == "lower_body")]
        others = [joint - 1 for joint in joints if joint > 0]
        for group, members, width in (
            (where.positions, others, 3),
            (where.rotations, others, 6),
            (where.velocities, joints, 3),
        ):
            kept[:, group].unflatten(-1, (-1, width))[:, members] = True
        if keep == "lower_body":
            for group in (where.root_rot_velocity, where.root_linear_velocity, where.root_height, where.contacts):
                kept[:, group] = True
        return kept
    for part in parts:
        kept[slice(*part.indices(frames))] = True
    of_frames = kept[:, 0]
    if of_frames.all() or not of_frames.any():
        raise ConfigError(f"keep must leave some of the {frames} frames and not all, got {keep!r}.")
    return kept


def _is_frames(part: object) -> bool:
    if not isinstance(part, slice):
        return False
    ends = (part.start, part.stop, part.step)
    return all(end is None or isinstance(end, Integral) for end in ends) and (part.step is None or part.step >= 1)


def _below_the_spine(skeleton: Skeleton) -> set[int]:
    """The root and the legs: the chains that end in the feet."""
    return {joint for chain in skeleton.chains if chain[-1] in skeleton.feet for joint in chain}

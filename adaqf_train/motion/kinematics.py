"""Forward kinematics, and resampling that keeps bone lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adaqf_train.motion import rotations


def forward(translations: Tensor, turns: Tensor, parents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Global positions (..., J, 3) and rotations (..., J, 4) of local transforms, all frames at once.

    Translations (..., J, 3) and turns (..., J, 4) are in the parents' frames; parents come before children, -1: root.
    """
    positions: list[Tensor] = []
    orientations: list[Tensor] = []
    for joint, parent in enumerate(parents):
        translation, turn = translations[..., joint, :], turns[..., joint, :]
        if parent >= 0:
            translation = positions[parent] + rotations.rotate(orientations[parent], translation)
            turn = rotations.multiply(orientations[parent], turn)
        positions.append(translation)
        orientations.append(turn)
    return torch.stack(positions, dim=-2), torch.stack(orientations, dim=-2)


def frames_at(frames: int, source_fps: float, target_fps: float) -> int:
    """Number of frames of a clip at another rate: those that fit between its first and its last."""
    # A rounded frame time (0.0333333 s for a thirtieth) must not cost a frame.
    return int((frames - 1) * target_fps / source_fps + 1e-3) + 1


def resample(translations: Tensor, turns: Tensor, source_fps: float, target_fps: float) -> tuple[Tensor, Tensor]:
    """Resample local transforms, (T, J, 3) and (T, J, 4), with cubics through the four nearest frames.

    Interpolating rotations instead of positions keeps bone lengths. Nothing is smoothed: from an integer multiple of
    the target rate every nth frame is taken unchanged, as HumanML3D does.
    """
    frames = len(translations)
    if source_fps == target_fps or frames < 2:
        return translations, turns
    count = frames_at(frames, source_fps, target_fps)
    times = torch.arange(count, dtype=translations.dtype) * (source_fps / target_fps)
    turns = normalize(_cubic(rotations.aligned(turns), times), dim=-1)
    return _cubic(translations, times), turns


def _cubic(values: Tensor, times: Tensor) -> Tensor:
    """Catmull-Rom interpolation of values (T, ...), T >= 2, at times (N,) in frames -> (N, ...)."""
    below = times.floor().long().clamp(0, len(values) - 2)
    s = (times - below).clamp(0, 1).reshape(-1, *[1] * (values.ndim - 1))
    # Extrapolate one frame before the first and one after the last.
    around = torch.cat([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])
    return (
        around[below] * (-(s**3) + 2 * s**2 - s)
        + around[below + 1] * (3 * s**3 - 5 * s**2 + 2)
        + around[below + 2] * (-3 * s**3 + 4 * s**2 + s)
        + around[below + 3] * (s**3 - s**2)
    ) / 2

"""BVH files for Blender and retargeting tools: a T-pose, rotations, and the root's path, in metres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaclip.files import atomic_file
from adaqf_train.files.animation import Animation
from adaqf_train.files.names import Names, joint_names

POSITION = "Xposition Yposition Zposition"
ROTATION = "Zrotation Xrotation Yrotation"  # the order that most programs write and read
CHUNK = 2048  # frames written at a time
THREE_DIGITS = np.frombuffer("".join(f"{number:03d}" for number in range(1000)).encode(), np.uint8).reshape(1000, 3)
END = 0.4  # length of an End Site, as a share of the bone before it: hands, toes and the top of the head


def write_bvh(path: str | Path, animation: Animation, fps: float, names: Names = "standard") -> None:
    """Write an animation as a BVH file.

    The HIERARCHY is a T-pose that faces +Z, with the clip's median bone lengths. Numbers are metres, Blender's unit at
    its default import scale. The root has position channels and every joint has rotation channels. Where bones
    stretch, every joint has position channels, which replace its OFFSET. Programs disagree on them: some add the
    OFFSET, some ignore them, some refuse the file. names: those of the skeleton's joints, or of another program.
    """
    skeleton = animation.skeleton
    columns, waiting = [], [0]
    while waiting:  # depth first, as in the hierarchy
        joint = waiting.pop()
        waiting += reversed(skeleton.children[joint])
        if joint == 0 or animation.stretches:
            columns.append(animation.translations[:, joint])
        columns.append(euler_zxy(animation.turns[:, joint]))
    values = torch.cat(columns, dim=1).numpy()
    hierarchy = _hierarchy(animation, joint_names(skeleton, names), 0, "")
    timing = f"Frames: {len(values)}", f"Frame Time: {1 / fps:.8f}"
    with atomic_file(Path(path)) as staging, staging.open("wb") as file:
        file.writelines(f"{line}\n".encode() for line in ("HIERARCHY", *hierarchy, "MOTION", *timing))
        file.writelines(_rows(values[first : first + CHUNK]) for first in range(0, len(values), CHUNK))


def _rows(values: np.ndarray) -> bytes:
    """Lines of numbers with six decimals. Whole arrays of digits take a fifth of the time of one number at a time."""
    units = np.rint(np.abs(values) * 1e6).astype(np.int64)
    groups = max(3, -(-len(str(units.max())) // 3))  # of three digits, the last two behind the point
    whole = 3 * (groups - 2)
    text = np.empty((*values.shape, 1 + whole + 1 + 6 + 1), np.uint8)  # sign, digits, point, decimals, separator
    text[..., 0], text[..., 1 + whole], text[..., -1] = b"-. "
    text[:, -1, -1] = ord("\n")
    rest = units
    for group in reversed(range(groups)):
        rest, part = np.divmod(rest, 1000)
        first = 1 + 3 * group + (group >= groups - 2)
        text[..., first : first + 3] = THREE_DIGITS[part]
    shown = np.ones(text.shape, bool)
    shown[..., 0] = (values < 0) & (units > 0)
    for digit in range(whole - 1):  # leading zeros
        shown[..., 1 + digit] = units >= 10 ** (5 + whole - digit)
    return text[shown].tobytes()


def euler_zxy(turns: Tensor) -> Tensor:
    """Convert rotations (T, ..., 4) over time to angles (T, ..., 3) of R_Z·R_X·R_Y in degrees, without sudden jumps.

    Two triples, (z, x, y) and (z + 180, 180 - x, y + 180), describe each rotation, and whole turns can be added to each
    angle. Each frame takes the angles nearest to those of the frame before, so that curves can be edited and resampled.
    """
    w, i, j, k = turns.unbind(-1)
    sine = 2 * (j * k + w * i)  # of x: row 2, column 1 of the rotation matrix
    x = torch.asin(sine.clamp(-1, 1))
    z = torch.atan2(2 * (w * k - i * j), 1 - 2 * (i * i + k * k))
    y = torch.atan2(2 * (w * j - i * k), 1 - 2 * (i * i + j * j))
    # With X at a right angle, Y and Z turn about the same axis: Z takes the whole turn.
    locked = sine.abs() > 1 - 1e-10
    z = torch.where(locked, torch.atan2(2 * (i * j + w * k), 1 - 2 * (j * j + k * k)), z)
    y = torch.where(locked, torch.zeros_like(y), y)
    first = torch.stack([z, x, y], dim=-1).rad2deg().numpy()
    second = first * (1, -1, 1) + 180
    # From the second triple to either, distances are the same as from the first triple to the other or itself.
    changes = _distance(first, second) < _distance(first, first)
    use_second = np.cumsum(np.concatenate([np.zeros((1, *changes.shape[1:]), bool), changes]), axis=0) % 2 == 1
    angles = np.where(use_second[..., None], second, first)
    angles[1:] -= 360 * np.cumsum(np.rint(np.diff(angles, axis=0) / 360), axis=0)
    return torch.from_numpy(angles)


def _distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Sum of the three angles (T-1, ...) from each frame of `before` to the next one of `after`."""
    step = after[1:] - before[:-1]
    return np.abs(step - 360 * np.rint(step / 360)).sum(axis=-1)


def _hierarchy(animation: Animation, names: Sequence[str], joint: int, indent: str) -> Iterator[str]:
    """The lines of a joint and of all joints below it."""
    skeleton, offset = animation.skeleton, animation.offsets[joint]
    moves = joint == 0 or animation.stretches
    yield f"{indent}{'JOINT' if joint else 'ROOT'} {names[joint]}"
    yield f"{indent}{{"
    yield f"{indent}  OFFSET {_numbers(offset)}"
    yield f"{indent}  CHANNELS {f'6 {POSITION} {ROTATION}' if moves else f'3 {ROTATION}'}"
    for child in skeleton.children[joint]:
        yield from _hierarchy(animation, names, child, indent + "  ")
    if not skeleton.children[joint]:
        end = ("  End Site", "  {", f"    OFFSET {_numbers(END * offset)}", "  }")
        yield from (indent + line for line in end)
    yield f"{indent}}}"


def _numbers(vector: Tensor) -> str:
    return " ".join(f"{value:.6f}" for value in vector.tolist())

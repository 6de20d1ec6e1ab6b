"""BVH files for Blender and retargeting tools: a T-pose, rotations, and the root's path, in metres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaclip.files import atomic_file
from adaqf_train.files.animation import Animation
from adaqf_train.motion import rotations

POSITION = "Xposition Yposition Zposition"
ROTATION = "Zrotation Xrotation Yrotation"  # the order that most programs write and read
END = 0.4  # length of an End Site, as a share of the bone before it: hands, toes and the top of the head


def write_bvh(path: str | Path, animation: Animation, fps: float) -> None:
    """Write an animation as a BVH file.

    The HIERARCHY is a T-pose that faces +Z, with the skeleton's joint names and the clip's median bone lengths. Numbers
    are metres, Blender's unit at its default import scale. The root has position channels and every joint has rotation
    channels. Where bones stretch, every joint has position channels; a program that ignores them shows rigid bones.
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
    with atomic_file(Path(path)) as staging, staging.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(f"{line}\n" for line in ("HIERARCHY", *_hierarchy(animation, 0, ""), "MOTION"))
        file.write(f"Frames: {len(values)}\nFrame Time: {1 / fps:.8f}\n")
        np.savetxt(file, values, fmt="%.6f")


def euler_zxy(turns: Tensor) -> Tensor:
    """Convert rotations (T, 4) over time to angles (T, 3) of R_Z·R_X·R_Y in degrees, without sudden jumps.

    Two triples, (z, x, y) and (z + 180, 180 - x, y + 180), describe each rotation, and whole turns can be added to each
    angle. Each frame takes the angles nearest to those of the frame before, so that curves can be edited and resampled.
    """
    x_axis, y_axis, z_axis = (rotations.rotate(turns, axis) for axis in torch.eye(3, dtype=turns.dtype))
    x = torch.asin(y_axis[:, 2].clamp(-1, 1))
    z, y = torch.atan2(-y_axis[:, 0], y_axis[:, 1]), torch.atan2(-x_axis[:, 2], z_axis[:, 2])
    # With X at a right angle, Y and Z turn about the same axis: Z takes the whole turn.
    locked = y_axis[:, 2].abs() > 1 - 1e-10
    z = torch.where(locked, torch.atan2(x_axis[:, 1], x_axis[:, 0]), z)
    y = torch.where(locked, torch.zeros_like(y), y)
    first = torch.stack([z, x, y], dim=-1).rad2deg().numpy()
    second = first * (1, -1, 1) + 180
    angles = first.copy()
    for frame in range(1, len(angles)):
        before = angles[frame - 1]
        near = [triple + 360 * np.rint((before - triple) / 360) for triple in (first[frame], second[frame])]
        angles[frame] = min(near, key=lambda triple: np.abs(triple - before).sum())
    return torch.from_numpy(angles)


def _hierarchy(animation: Animation, joint: int, indent: str) -> Iterator[str]:
    """The lines of a joint and of all joints below it."""
    skeleton, offset = animation.skeleton, animation.offsets[joint]
    moves = joint == 0 or animation.stretches
    yield f"{indent}{'JOINT' if joint else 'ROOT'} {skeleton.joints[joint]}"
    yield f"{indent}{{"
    yield f"{indent}  OFFSET {_numbers(offset)}"
    yield f"{indent}  CHANNELS {f'6 {POSITION} {ROTATION}' if moves else f'3 {ROTATION}'}"
    for child in skeleton.children[joint]:
        yield from _hierarchy(animation, child, indent + "  ")
    if not skeleton.children[joint]:
        end = ("  End Site", "  {", f"    OFFSET {_numbers(END * offset)}", "  }")
        yield from (indent + line for line in end)
    yield f"{indent}}}"


def _numbers(vector: Tensor) -> str:
    return " ".join(f"{value:.6f}" for value in vector.tolist())

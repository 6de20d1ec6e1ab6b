"""Convert folders of BVH files, of any skeleton, to HumanML3D's layout."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from adaqf_train.data.prepare import recordings
from adaqf_train.data.prepare.recordings import FPS, WINDOW, Recording, Summary
from adaqf_train.errors import DataError
from adaqf_train.motion import kinematics, mapping
from adaqf_train.motion.bvh import Bvh, read_bvh
from adaqf_train.motion.skeleton import HUMANML3D

Up = Literal["y", "z"]


def prepare_bvh(
    source: Path,
    folder: Path,
    *,
    captions: Path | None = None,
    joint_map: str | None = None,
    fps: float | None = None,
    up: Up | None = None,
    skip: int | None = None,
    window: int = WINDOW,
    mirror: bool = False,
) -> Summary:
    """Convert BVH files with captions to a HumanML3D folder. Damaged input leaves no output.

    source: a folder of BVH files at any depth, whose stems name the clips, with optional split lists. Any unit of
    length will do: bodies take the standard skeleton's size. captions: JSON {name: [captions]} or CSV (name, caption);
    None: NAME.txt beside each file. joint_map: a preset's name or a JSON file; None: the preset that fits the joint
    names. fps: frame rate of the files; None: the rate that each file states. up: the axis that points up; None: y, and
    files that look otherwise are refused. skip: frames to skip at the start of each file, such as the rest pose of
    CMU's; None: 0, and files that begin with a rest pose are refused. window: longer clips are cut evenly into windows
    of at most this many frames at 20 fps. mirror: add a mirrored copy M... of every training clip.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise DataError(f"--fps {fps:g}: give a frame rate above 0.")
    if skip is not None and skip < 0:
        raise DataError(f"--skip {skip}: give 0 or more frames.")
    files = recordings.find_files(source, ".bvh", lambda path: path.stem)
    table = recordings.read_captions(files, captions)
    converter = _Converter(None if joint_map is None else mapping.load_map(joint_map), fps, up, skip)
    made_from = {"format": "bvh", "map": converter.points, "fps": fps, "up": up, "skip": skip}
    return recordings.write_recordings(
        folder, source, files, table, converter.look, window=window, mirror=mirror, made_from=made_from
    )


class _Converter:
    """Read standard joints from BVH files."""

    def __init__(self, points: mapping.JointMap | None, fps: float | None, up: Up | None, skip: int | None) -> None:
        self.points, self.fps, self.up, self.skip = points, fps, up, skip
        self.read = lru_cache(maxsize=1)(self._read)  # the windows of a file are read one after the other

    def look(self, path: Path) -> Recording:
        """Check the header, line count, skeleton and first poses of a file without reading all of its numbers."""
        bvh = self._open(path, limit=3)
        if bvh.frames:
            poses = self._standard(path, bvh, bvh.positions())
            _check_bones(path, poses[0])
            if self.up is None:
                _check_upright(path, poses[0])
            if self.skip is None:
                _check_start(path, poses)
        return Recording(kinematics.frames_at(bvh.frames, bvh.fps, FPS), partial(self.read, path))

    def _read(self, path: Path) -> np.ndarray:
        bvh = self._open(path)
        return self._standard(path, bvh, bvh.positions(FPS)).numpy()

    def _open(self, path: Path, limit: int | None = None) -> Bvh:
        """A file, or its first frames, without the frames to skip and at the given rate."""
        skip = self.skip or 0
        bvh = read_bvh(path, limit=None if limit is None else limit + skip)
        frame_time = bvh.frame_time if self.fps is None else 1 / self.fps
        return replace(bvh, frames=max(bvh.frames - skip, 0), values=bvh.values[skip:], frame_time=frame_time)

    def _standard(self, path: Path, bvh: Bvh, positions: np.ndarray) -> Tensor:
        """The standard joints (T, 22, 3), Y up, of all joints (T, J, 3)."""
        points = self.points or mapping.map_for(bvh.names, None, path)
        joints = mapping.weights(bvh.names, points, path) @ torch.from_numpy(positions)
        return z_up_to_y_up(joints) if self.up == "z" else joints


def z_up_to_y_up(joints: Tensor) -> Tensor:
    """Rotate positions (..., 3) by -90 degrees about X, from Z up to Y up."""
    x, y, z = joints.unbind(-1)
    return torch.stack([x, z, -y], dim=-1)


def _check_bones(path: Path, pose: Tensor) -> None:
    """Raise DataError if joined joints of a pose (22, 3) coincide, as CMU's helper joints do."""
    lengths = HUMANML3D.lengths_of(pose)
    for joint, length in enumerate(lengths, start=1):
        if length <= 1e-4 * lengths.sum():
            a, b = HUMANML3D.joints[joint], HUMANML3D.joints[HUMANML3D.parents[joint]]
            raise DataError(
                f"{path}: {a} and {b} coincide. Give --map FILE.json with another joint, or a point between two: "
                '["Chest", "Neck", 0.25].'
            )


def _check_upright(path: Path, pose: Tensor) -> None:
    """Raise DataError if the first pose (22, 3) extends along Z: most likely Z is up, but the person may lie."""
    head, left, right = (pose[HUMANML3D.joints.index(joint)] for joint in ("head", "left_ankle", "right_ankle"))
    body = torch.nn.functional.normalize(head - (left + right) / 2, dim=-1)
    if body[2] > 0.9 and abs(body[1]) < 0.3:
        raise DataError(
            f"{path}: the body extends along Z in the first frame. Give --up z if the files have Z up, or --up y if "
            "the person lies down."
        )


def _check_start(path: Path, poses: Tensor) -> None:
    """Raise DataError if the first of three poses (3, 22, 3) is far from the second, and the second near the third."""
    if len(poses) < 3:
        return
    relative = poses - poses[:, :1]
    first, second = (relative[1:] - relative[:-1]).norm(dim=-1).mean(dim=-1)
    thigh, shank = (HUMANML3D.lengths_of(poses[0])[joint - 1] for joint in HUMANML3D.leg)
    # From the rest pose to a walk, CMU's joints move by 0.2 legs, and by 0.02 to the next frame. The quickest blows and
    # leaps of Bandai Namco move them by 0.13 per frame, several frames in a row.
    if first > 0.1 * (thigh + shank) and first > 4 * second:
        raise DataError(
            f"{path}: the body jumps between the first two frames, as after a rest pose. Give --skip 1 to skip the "
            "first frame of every file, or --skip 0 to keep it."
        )

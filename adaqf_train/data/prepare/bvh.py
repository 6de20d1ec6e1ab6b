"""Convert folders of BVH files, of any skeleton, to HumanML3D's layout."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from adaqf_train.data.prepare import recordings
from adaqf_train.data.prepare.options import Options, of_files
from adaqf_train.data.prepare.recordings import FPS, WINDOW, Recording, Summary
from adaqf_train.errors import DataError
from adaqf_train.motion import kinematics, mapping, orientation
from adaqf_train.motion.bvh import Bvh, read_bvh
from adaqf_train.motion.orientation import Up
from adaqf_train.motion.skeleton import HUMANML3D

KEPT = 200_000  # frames of checked files that stay in memory, 100 MB; others are read again


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

    All files are examined first (`orientation.examine`), and all faults are reported at once.

    Args:
        source: A folder of BVH files at any depth, whose stems name the clips, with optional split lists. Any unit of
            length will do: bodies take the standard skeleton's size.
        folder: The folder to write.
        captions: JSON {name: [captions]} or CSV (name, caption), which may state the options below for single files;
            None: NAME.txt beside each file.
        joint_map: A preset's name or a JSON file; None: the map that fits the joint names.
        fps: Frame rate of the files; None: the rate that each file states.
        up: The axis that points up; None: y, and files that look otherwise are refused.
        skip: Frames to skip at the start of each file, such as the rest pose of CMU's; None: 0, and files that begin
            with a rest pose are refused.
        window: Longer clips are cut evenly into windows of at most this many frames at 20 fps.
        mirror: Add a mirrored copy M... of every training clip.

    Returns:
        Counts, and what was skipped or is doubtful.

    Raises:
        DataError: Input is damaged or refused; FilesError if several files are.
    """
    files = recordings.find_files(source, ".bvh", lambda path: path.stem)
    table, stated = recordings.read_captions(files, captions)
    general = Options(map=joint_map, skip=skip, up=up, fps=fps)
    options = of_files(source, files, stated, general)
    converter = _Converter(options)
    own = {str(path.relative_to(source)): found.given() for path, found in options.items() if found != general}
    points = {choice: mapping.load_map(choice) for found in options.values() if (choice := found.map) is not None}
    made_from = {"format": "bvh", "maps": points, **general.given(), "options": own}
    return recordings.write_recordings(
        folder, source, files, table, converter.look, window=window, mirror=mirror, made_from=made_from
    )


class _Converter:
    """Read standard joints from BVH files."""

    def __init__(self, options: Mapping[Path, Options]) -> None:
        self.options = options
        self.read = lru_cache(maxsize=1)(self._read)  # the windows of a file are read one after the other
        self.kept: dict[Path, np.ndarray] = {}
        self.free = KEPT

    def look(self, path: Path) -> Recording:
        """Read and examine a file."""
        options = self.options[path]
        bvh = read_bvh(path)
        if options.fps is None and (fault := orientation.check_frame_time(bvh.frame_time)):
            raise DataError(f"{path}: {fault}")
        fps, skip = options.fps or bvh.fps, options.skip or 0
        frames = max(len(bvh.values) - skip, 0)
        notes: tuple[str, ...] = ()
        if frames:
            joints = _standard(path, bvh, bvh.positions()[skip:], options)
            _check_bones(path, joints[0])
            notes = _examined(path, joints, fps, options)
            resampled = self._at_rate(path, bvh)
            if len(resampled) <= self.free:
                self.free -= len(resampled)
                self.kept[path] = resampled
        return Recording(kinematics.frames_at(frames, fps, FPS) if frames else 0, partial(self.read, path), notes)

    def _read(self, path: Path) -> np.ndarray:
        return self.kept[path] if path in self.kept else self._at_rate(path, read_bvh(path))

    def _at_rate(self, path: Path, bvh: Bvh) -> np.ndarray:
        """The standard joints (T, 22, 3), Y up, at 20 fps, without the frames to skip."""
        options = self.options[path]
        translations, turns = (part[options.skip or 0 :] for part in bvh.local())
        local = kinematics.resample(translations, turns, options.fps or bvh.fps, FPS)
        return _standard(path, bvh, kinematics.forward(*local, bvh.parents)[0].numpy(), options)


def _standard(path: Path, bvh: Bvh, positions: np.ndarray, options: Options) -> np.ndarray:
    """The standard joints (T, 22, 3), Y up, of all joints (T, J, 3)."""
    points = mapping.map_for(bvh.names, options.map, path)
    joints = (mapping.weights(bvh.names, points, path) @ torch.from_numpy(positions)).numpy()
    return orientation.turned(joints, options.up or "y")


def _examined(path: Path, joints: np.ndarray, fps: float, options: Options) -> tuple[str, ...]:
    """What is doubtful about joints (T, 22, 3); DataError if they must not be used."""
    faults = orientation.examine(joints, fps, up=options.up, skip=options.skip, any_unit=True)
    if errors := [fault for fault in faults if fault.level == "error"]:
        raise DataError(f"{path}: " + " ".join(map(str, errors)))
    return tuple(map(str, faults))


def _check_bones(path: Path, pose: np.ndarray) -> None:
    """Raise DataError if joined joints of a pose (22, 3) coincide, as CMU's helper joints do."""
    lengths = HUMANML3D.lengths_of(torch.from_numpy(pose))
    for joint, length in enumerate(lengths, start=1):
        if length <= 1e-4 * lengths.sum():
            a, b = HUMANML3D.joints[joint], HUMANML3D.joints[HUMANML3D.parents[joint]]
            raise DataError(
                f"{path}: {a} and {b} coincide. Give --map FILE.json with another joint, or a point between two: "
                '["Chest", "Neck", 0.25].'
            )

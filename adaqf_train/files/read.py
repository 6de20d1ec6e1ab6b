"""The one reader of motions as they come: joints in any usual layout, features, MDM's results, BVH; files and folders.

Every clip becomes joints in metres, Y up. What is certainly wrong is refused in one line; what may be meant is a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import MAGIC_PREFIX

from adaqf_train.data.archives import BROKEN_ARCHIVE, open_archive
from adaqf_train.data.arrays import as_clips, without_padding
from adaqf_train.data.clips import load_array
from adaqf_train.data.mdm_results import read_results
from adaqf_train.data.prepare.captions import plain_captions
from adaqf_train.data.prepare.joints import resample
from adaqf_train.data.prepare.recordings import refuse
from adaqf_train.errors import AdaQFError, DataError, ExportError
from adaqf_train.files.animation import at_rate
from adaqf_train.files.smpl import fit_smpl, read_smpl
from adaqf_train.motion import features, mapping, orientation, streaming
from adaqf_train.motion.bvh import read_bvh
from adaqf_train.motion.orientation import Up
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton, skeleton_of_width

RESULTS = "results.npy"
SUFFIXES = (".npy", ".bvh", ".npz")


@dataclass(frozen=True)
class Clip:
    """A motion as it came."""

    where: str  # file, and number in it, for messages
    joints: np.ndarray  # (T, J, 3) float64, metres, Y up
    skeleton: Skeleton
    fps: float | None = None  # None: the source states no rate, and the skeleton's is meant
    caption: str = ""
    features: np.ndarray | None = None  # (T, 263 | 251) float64, if the source holds them
    notes: tuple[str, ...] = ()  # sentences about what was changed, or is probably wrong


def read_clips(
    path: Path,
    *,
    fps: float | None = None,
    up: Up | None = None,
    skip: int | None = None,
    joint_map: str | None = None,
) -> list[Clip]:
    """Read every clip of a file, or of all files in a folder.

    Args:
        path: A .npy file of joints or features; MDM's results.npy, or the folder that contains it; a .bvh file; AMASS's
            .npz; or a folder of such files, each with an optional NAME.txt.
        fps: Frames per second; None: those of the file, else of the skeleton.
        up: The axis that points up in joints and BVH files; None: y.
        skip: Frames to leave out at the start of each clip; None: 0, with a note on clips that begin with a rest pose.
        joint_map: For BVH: a preset's name or a JSON file; None: the preset that fits the joint names.

    Returns:
        The clips, in the order of the files.

    Raises:
        ExportError: The files hold no motion, or one in another unit, normalised, or not finite.
        DataError: A file is damaged; FilesError, which names all of them, if several files cannot be used.
    """
    if path.is_dir() and (path / RESULTS).is_file():
        path = path / RESULTS
    if not path.exists():
        raise ExportError(f"{path}: no such file. Give a .npy file of joints or features, or a .bvh file.")
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]
        if not files:
            raise ExportError(f"{path}: no .npy, .bvh or .npz files. Give a file, or a folder of them.")
        clips, faults = [], []
        for file in files:
            try:
                clips += _read(file, fps, up, skip, joint_map)
            except AdaQFError as error:
                faults.append((str(file), error))
        refuse(faults)
        return clips
    return list(_read(path, fps, up, skip, joint_map))


def read_motions(path: Path) -> list[np.ndarray]:
    """Read the joints (T, J, 3), metres, Y up, float64, of every clip. See `read_clips`."""
    return [clip.joints for clip in read_clips(path)]


def features_of(clip: Clip) -> np.ndarray:
    """The features (T, 263 | 251) of a clip at its skeleton's rate; T joints become T - 1 rows."""
    if clip.features is not None:
        return clip.features
    joints = clip.joints
    if len(joints) > 1:
        joints = resample(joints, clip.fps or clip.skeleton.fps, clip.skeleton.fps)
    if len(joints) < 2:
        raise ExportError(
            f"{clip.where}: only one frame at {clip.skeleton.fps:g} fps, but features hold velocities. Give two frames."
        )
    return features.encode(joints * clip.skeleton.units_per_metre)


def streaming_of(clip: Clip) -> np.ndarray:
    """MotionStreamer's features (T, 272) of a clip at 30 fps, with the rotations of SMPL's joints (`fit_smpl`)."""
    if len(clip.joints) < 2:
        raise ExportError(f"{clip.where}: only one frame, but features hold velocities. Give two frames.")
    animation = fit_smpl(clip.joints, clip.skeleton).animation
    animation = at_rate(animation, clip.fps or clip.skeleton.fps, streaming.FPS)
    return streaming.encode(animation.positions(), animation.turns.numpy())


def _read(path: Path, fps: float | None, up: Up | None, skip: int | None, joint_map: str | None) -> Iterator[Clip]:
    """The clips of a file, with the caption of NAME.txt where the file has none, and notes."""
    beside = path.with_suffix(".txt")
    caption = plain_captions(beside)[0].text if beside.is_file() else ""
    match path.suffix.lower():
        case ".bvh":
            clips = _bvh(path, fps, up, joint_map)
        case ".npz":
            clips = _smpl(path, fps, up)
        case _:
            clips = _arrays(path, fps, up)
    for clip in clips:
        joints = clip.joints[skip or 0 :]
        if not len(joints):
            raise ExportError(f"{clip.where}: {len(clip.joints)} frames, of which {skip} are skipped. Skip fewer.")
        found = orientation.examine(joints * clip.skeleton.units_per_metre, clip.fps, clip.skeleton, up=up, skip=skip)
        certain = ("finite", "collapsed", "unit") if clip.features is None else ("finite",)  # generated ones may be odd
        if wrong := [fault for fault in found if fault.kind in certain]:
            raise ExportError(f"{clip.where}: {wrong[0]}")
        rows = None if clip.features is None else clip.features[skip or 0 :]
        notes = (*clip.notes, *map(str, found))
        yield replace(clip, joints=joints, features=rows, caption=clip.caption or caption, notes=notes)


def _bvh(path: Path, fps: float | None, up: Up | None, joint_map: str | None) -> Iterator[Clip]:
    try:
        bvh = read_bvh(path)
        if fps is None and (fault := orientation.check_frame_time(bvh.frame_time)):
            raise DataError(f"{path}: {fault}")
        points = mapping.map_for(bvh.names, joint_map, path)
        joints = (mapping.weights(bvh.names, points, path) @ torch.from_numpy(bvh.positions())).numpy()
    except AdaQFError as error:
        raise ExportError(str(error)) from error
    joints = orientation.turned(joints, up or "y")
    if len(joints) and (unit := orientation.check_leg(orientation.leg_length(joints))) and unit.value:
        joints = joints * float(unit.value)  # any unit of length is usual in BVH files
    yield Clip(str(path), joints, HUMANML3D, fps or bvh.fps)


def _smpl(path: Path, fps: float | None, up: Up | None) -> Iterator[Clip]:
    try:
        with open_archive(path) as archive:
            names = set(archive.files)
    except BROKEN_ARCHIVE:
        names = set()
    if not names & {"poses", "pose_body"}:
        raise ExportError(
            f"{path}: not a file of AMASS with SMPL's poses. Save an array of another archive with numpy.save first."
        )
    if up not in (None, "z"):
        raise ExportError(f"{path}: files of AMASS have Z up, so --up {up} cannot turn them. Omit it.")
    joints, rate, shaped = read_smpl(path)
    note = "the body has SMPL's mean shape; for its own, use adaqf prepare amass with body models"
    yield Clip(str(path), joints, HUMANML3D, fps or rate, notes=(note,) if shaped else ())


def _arrays(path: Path, fps: float | None, up: Up | None) -> Iterator[Clip]:
    array = _load(path)
    if array is None:
        for where, text, joints in read_results(path):
            yield clip_of(where, joints.astype(np.float64), fps, up, text)
        return
    clips = as_clips(array, path)
    for number, one in enumerate(clips):
        yield clip_of(str(path) if len(clips) == 1 else f"{path}, motion {number}", one, fps, up)


def _load(path: Path) -> np.ndarray | None:
    """The array of a .npy file; None for one that holds an object, as MDM's results do."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC_PREFIX))
            if head == MAGIC_PREFIX:
                file.seek(0)
                if _holds_object(file):
                    return None
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror}). Give another file.") from error
    if head != MAGIC_PREFIX:
        raise ExportError(
            f"{path}: not a .npy file. Give a .npy file of joints or features, a .bvh file, or AMASS's .npz."
        )
    return load_array(path)


def _holds_object(file) -> bool:
    try:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file)[2] == np.dtype(object)
    except ValueError:
        return False


def clip_of(where: str, array: np.ndarray, fps: float | None, up: Up | None, caption: str = "") -> Clip:
    """A clip of joints (T, J, 3) or features (T, D), checked."""
    if not array.size:
        raise ExportError(f"{where}: no frames. Create the file again.")
    if not np.isfinite(array).all():
        frame = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ExportError(f"{where}: NaN or infinite values at frame {frame}. Create the file again.")
    array, notes = without_padding(array, where)
    if array.ndim == 2 and up not in (None, "y"):
        raise ExportError(f"{where}: features have Y up by definition, so --up {up} cannot turn them. Omit it.")
    if array.ndim == 3:
        skeleton = HUMANML3D if array.shape[1] == len(HUMANML3D) else KIT
        return Clip(
            where, _metres(orientation.turned(array, up or "y"), skeleton, where), skeleton, fps, caption, None, notes
        )
    if array.shape[1] == streaming.WIDTH:
        return Clip(where, streaming.decode(array), HUMANML3D, fps or streaming.FPS, caption, None, notes)
    if orientation.looks_normalised(array):
        raise ExportError(f"{where}: {orientation.NORMALISED}. {orientation.UNDO}")
    skeleton = skeleton_of_width(array.shape[1])
    joints = features.decode(array) / skeleton.units_per_metre
    return Clip(where, joints, skeleton, fps, caption, array, notes)


def _metres(joints: np.ndarray, skeleton: Skeleton, where: str) -> np.ndarray:
    """Joints in metres. KIT-ML's 21 joints may be in the data set's own units; ExportError for any other unit."""
    leg = orientation.leg_length(joints, skeleton)
    if not leg or orientation.LEGS[0] <= leg <= orientation.LEGS[1]:
        return joints
    if skeleton is KIT and orientation.check_leg(leg, KIT) is None:
        return joints / KIT.units_per_metre
    fault = orientation.check_leg(leg)
    assert fault is not None
    raise ExportError(f"{where}: {fault}")

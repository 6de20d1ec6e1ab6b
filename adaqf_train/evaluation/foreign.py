"""Motions of any program, read without a run or a data set, and examined as a set.

`stored` finds the arrays and captions of a path, `files.read` makes clips of them. What is wrong with most clips is
wrong with the set, and refused: one lying body among many may be meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from adaqf_train.data.arrays import as_clips
from adaqf_train.data.prepare.joints import resample
from adaqf_train.errors import ConfigError, DataError, ExportError
from adaqf_train.evaluation.stored import Stored, recaptioned, stored_in
from adaqf_train.files.read import Clip, clip_of, read_clips
from adaqf_train.motion import orientation
from adaqf_train.motion.orientation import UPS, Up
from adaqf_train.motion.physics import FEWEST_FRAMES
from adaqf_train.motion.skeleton import Skeleton

Floor = Literal["auto", "keep", "clip"]
FLOOR_OFF = 0.1  # metres; median over the clips of their lowest joint, from which the floor is not at height 0
MOST = 0.5  # share of the clips with a fault, from which it is the set's


@dataclass(frozen=True)
class Reading:
    """How the joints of a path are to be read; features state all of it themselves.

    Attributes:
        fps: Frames per second; None: the file's own, else the skeleton's (22 joints: 20, 21 joints: 12.5).
        up: The axis that points up; None: y, and a set that lies is refused.
        scale: Factor that makes metres of the joints; None: 1, and other units are refused.
        floor: keep: the floor is at height 0. clip: at the lowest joint of each clip. auto: keep, unless the median of
            the clips' lowest joints is more than 10 cm away from 0.

    Raises:
        ConfigError: A value does not hold.
    """

    fps: float | None = None
    up: Up | None = None
    scale: float | None = None
    floor: Floor = "auto"

    def __post_init__(self) -> None:
        for name, value in (("fps", self.fps), ("scale", self.scale)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be a positive number, got {value}.")
        for name, value, choices in (("up", self.up, UPS), ("floor", self.floor, get_args(Floor))):
            if value is not None and value not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


@dataclass(frozen=True)
class Motions:
    """The motions of a path.

    Attributes:
        name: Of the file or folder.
        skeleton: Of all clips.
        joints: Of each clip (T, J, 3), Y up, in the skeleton's units and at its frame rate, with the floor at 0.
        features: De-normalised features (T, D) of each clip, where the file has them.
        captions: Of each clip; None: it has none.
        names: Of the clips.
        notes: What was done, left out or noticed, a sentence each.
    """

    name: str
    skeleton: Skeleton
    joints: tuple[np.ndarray, ...]
    features: tuple[np.ndarray | None, ...]
    captions: tuple[str | None, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.joints)


def gather(path: Path, captions: Path | None = None, reading: Reading | None = None) -> Motions:
    """Read the motions of a path, in any of the forms that `stored` lists.

    Args:
        path: File or folder.
        captions: JSON {name: caption or captions}, CSV (name, caption) or TXT (a line each), in the place of the
            captions that the motions have.
        reading: Frame rate, axis, unit and floor of joints.

    Returns:
        Clips of at least `physics.FEWEST_FRAMES` frames.

    Raises:
        DataError: There are no motions; or one cannot be read, is not finite, too short, or in another unit or format;
            or most of them lie or are mirrored.
    """
    reading, notes = reading or Reading(), []
    found: list[tuple[str, Clip]] = []
    for stored in tqdm(stored_in(path, notes), desc=f"Reading {path.name}", unit="file", leave=False):
        try:
            clips = _read(stored, reading)
        except ExportError as error:  # a file that nothing can be made of
            raise DataError(_with_option(str(error))) from error
        found += [(stored.name if len(clips) == 1 else f"{stored.name}_{i}", clip) for i, clip in enumerate(clips)]
    clips = [clip for _, clip in found]
    skeleton = _one_skeleton(clips)
    _refuse(clips, skeleton, reading, notes)
    joints = _on_floor([_at_rate(clip, skeleton) for clip in clips], skeleton, reading.floor, notes)
    names = tuple(name for name, _ in found)
    texts = recaptioned(names, captions) if captions is not None else [clip.caption or None for clip in clips]
    name = path.stem if path.is_file() else path.resolve().name
    return Motions(name, skeleton, joints, tuple(clip.features for clip in clips), tuple(texts), names, tuple(notes))


def _read(stored: Stored, reading: Reading) -> list[Clip]:
    caption = stored.caption or ""
    if stored.array is None:
        clips = read_clips(stored.path, fps=reading.fps, up=reading.up)
        # The set is examined below, without advice for other commands.
        return [replace(clip, caption=caption or clip.caption, notes=()) for clip in clips]
    arrays = as_clips(stored.array, stored.where)
    clips = []
    for number, array in enumerate(arrays):
        where = f"{stored.where}, motion {number}" if len(arrays) > 1 else stored.where
        scaled = array * reading.scale if reading.scale is not None and array.ndim == 3 else array
        fps = reading.fps or stored.fps if array.ndim == 3 else None  # features have a rate of their own
        clips.append(clip_of(where, scaled, fps, reading.up, caption))
    return clips


def _one_skeleton(clips: Sequence[Clip]) -> Skeleton:
    kinds = Counter(clip.skeleton.name for clip in clips)
    if len(kinds) > 1:
        few = min(kinds, key=kinds.__getitem__)
        other = next(clip for clip in clips if clip.skeleton.name == few)
        raise DataError(
            f"{other.where}: {len(other.skeleton)} joints, but most motions have another number. Give each kind alone."
        )
    return clips[0].skeleton


def _at_rate(clip: Clip, skeleton: Skeleton) -> np.ndarray:
    """Joints in the skeleton's units, at its rate."""
    joints = clip.joints if len(clip.joints) < 2 else resample(clip.joints, clip.fps or skeleton.fps, skeleton.fps)
    if len(joints) < FEWEST_FRAMES:
        raise DataError(
            f"{clip.where}: frames at {skeleton.fps:g} per second: {len(joints)}, expected at least {FEWEST_FRAMES}. "
            "Remove it."
        )
    return joints * skeleton.units_per_metre


def _refuse(clips: Sequence[Clip], skeleton: Skeleton, reading: Reading, notes: list[str]) -> None:
    """Raise DataError for what is certainly wrong with a clip or with most of them; note the rest, kind by kind."""
    kinds: dict[str, list[tuple[Clip, orientation.Fault]]] = {}
    for clip in clips:
        joints = clip.joints * skeleton.units_per_metre
        for fault in orientation.examine(joints, clip.fps, skeleton, up=reading.up, skip=0):
            kinds.setdefault(fault.kind, []).append((clip, fault))
    for kind, found in kinds.items():
        clip, fault = found[0]
        whose = f" (and {len(found) - 1} more of {len(clips)} motions)" if len(found) > 1 else ""
        everyone = fault.level == "error" and len(found) > MOST * len(clips)
        # Features are those of a model, which may make odd bodies; joints may be in odd files.
        if kind == "finite" or (clip.features is None and (kind in ("collapsed", "unit") or everyone)):
            raise DataError(_with_option(f"{clip.where}{whose}: {fault}"))
        notes.append(f"{clip.where}{whose}: {fault.what}")
    changed = [clip for clip in clips if clip.notes]
    if changed:
        more = f" (and {len(changed) - 1} more motions)" if len(changed) > 1 else ""
        notes.append(f"{changed[0].notes[0]}{more}")


def _with_option(message: str) -> str:
    """A message that advises to multiply the joints, with the option that does it here."""
    return re.sub(r"Multiply the joints by ([\d.e+-]+\d)", r"Give --scale \1", message)


def _on_floor(joints: list[np.ndarray], skeleton: Skeleton, floor: Floor, notes: list[str]) -> tuple[np.ndarray, ...]:
    """The clips with the floor at height 0."""
    lowest = np.array([clip[..., 1].min() for clip in joints])
    away = float(np.median(lowest)) / skeleton.units_per_metre
    if floor == "keep" or (floor == "auto" and abs(away) <= FLOOR_OFF):
        return tuple(joints)
    if floor == "auto":
        notes.append(
            f"The floor is not at height 0 (the clips' lowest joints are at {away:+.2f} m in the median): each clip is "
            "put on its own lowest joint. --floor keep leaves them where they are"
        )
    return tuple(clip - np.array([0.0, low, 0.0]) for clip, low in zip(joints, lowest, strict=True))

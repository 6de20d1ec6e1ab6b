"""Convert arrays of joint positions, single files or packs, to HumanML3D's layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaqf_train.data.archives import BROKEN_ARCHIVE, open_archive
from adaqf_train.data.arrays import as_joints, without_padding
from adaqf_train.data.clips import load_array
from adaqf_train.data.layout import JOINTS, SPLITS, TEXTS, CaptionedMotion, write_folder
from adaqf_train.data.prepare.captions import plain_captions, table_of
from adaqf_train.data.prepare.options import Options, of_files
from adaqf_train.data.prepare.recordings import (
    check_output,
    check_splits,
    examine_all,
    given_splits,
    hashed_split,
    with_mirrored,
)
from adaqf_train.errors import DataError
from adaqf_train.motion import orientation
from adaqf_train.motion.orientation import Up
from adaqf_train.motion.skeleton import skeleton_of


def prepare_joints(
    source: Path,
    folder: Path,
    *,
    fps: float | None = None,
    up: Up | None = None,
    skip: int | None = None,
    mirror: bool = False,
) -> dict[str, int]:
    """Convert joint positions with captions to a HumanML3D folder.

    All clips are examined first (`orientation.examine`), and all faults are reported at once.

    Args:
        source: A pack ({train,val,test}.npz with positions, scale, offsets and names; captions.json), or a folder of
            NAME.npy joints in any layout of `arrays.as_joints` with NAME.txt captions, side by side or in joints/ (or
            new_joints/) and texts/, and optional split lists. 22 joints may have any unit: they take the standard
            skeleton's size. 21 joints are in KIT-ML's unit.
        folder: The folder to write.
        fps: Frame rate of the source, from which clips are resampled to the skeleton's; None: the pack's own, else the
            skeleton's.
        up: The axis that points up; None: y, and bodies that look otherwise are refused.
        skip: Frames to skip at the start of each clip; None: 0, and clips that begin with a rest pose are refused.
        mirror: Add a mirrored copy M... of every training clip.

    Returns:
        The number of clips per split.

    Raises:
        DataError: Input is damaged or refused; FilesError if several clips are.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give a folder of joints and captions.")
    check_output(folder)
    general = Options(skip=skip, up=up, fps=fps)
    clips = list(_pack(source, general) if (source / "train.npz").is_file() else _plain(source, general))
    check_splits(source, clips)
    readers = [clip.joints for clip in clips if isinstance(clip.joints, _Joints)]
    examine_all([(joints.where, joints.examine) for joints in readers])
    options = [[joints.where, joints.options.given()] for joints in readers]
    made_from = {"joints": str(source.resolve()), "mirror": mirror, "options": options}
    with tqdm(clips, desc="Converting", unit="clip") as bar:
        return write_folder(folder, with_mirrored(bar) if mirror else bar, made_from=made_from)


def resample(joints: np.ndarray, source_fps: float, target_fps: float) -> np.ndarray:
    """Resample joint positions (T, J, 3) linearly; return the same array at the same rate."""
    if source_fps == target_fps:
        return joints
    times = np.arange(0, (len(joints) - 1) / source_fps + 1e-9, 1 / target_fps) * source_fps
    below = np.minimum(times.astype(int), len(joints) - 2)
    share = (times - below)[:, None, None]
    return (1 - share) * joints[below] + share * joints[below + 1]


@dataclass(frozen=True)
class _Joints:
    """The joints of a clip, to be examined and read."""

    where: str
    load: Callable[[], np.ndarray]
    options: Options

    def __call__(self) -> np.ndarray:
        """The joints (T, J, 3) at their skeleton's rate, Y up."""
        joints, _ = self._joints()
        skeleton = skeleton_of(joints.shape[1])
        return resample(joints, self.options.fps or skeleton.fps, skeleton.fps)

    def examine(self) -> tuple[str, ...]:
        """What is doubtful; DataError if the joints must not be used."""
        joints, notes = self._joints()
        skeleton, options = skeleton_of(joints.shape[1]), self.options
        any_unit = skeleton.bone_lengths is not None
        faults = orientation.examine(joints, options.fps, skeleton, up=options.up, skip=options.skip, any_unit=any_unit)
        if errors := [fault for fault in faults if fault.level == "error"]:
            raise DataError(f"{self.where}: " + " ".join(map(str, errors)))
        return (*notes, *map(str, faults))

    def _joints(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The joints at the source's rate, Y up, and what was changed."""
        joints, notes = without_padding(as_joints(self.load(), self.where), self.where)
        joints = joints[self.options.skip or 0 :]
        if len(joints) < 2:
            skipped = f" after {self.options.skip} that are skipped" if self.options.skip else ""
            remedy = "Skip fewer, or remove the clip." if skipped else "Remove the clip."
            raise DataError(f"{self.where}: {len(joints)} frames{skipped}, expected at least 2. {remedy}")
        return orientation.turned(joints, self.options.up or "y"), notes


def _pack(source: Path, general: Options) -> Iterator[CaptionedMotion]:
    captions, stated = table_of(source / "captions.json")
    for split in SPLITS:
        path = source / f"{split}.npz"
        positions, names, offsets, rate = read_pack(path)
        own = general if general.fps or rate is None else general.but({"fps": rate})
        for name, (start, stop) in zip(names, itertools.pairwise(offsets), strict=True):
            if name not in captions:
                raise DataError(f"{source / 'captions.json'}: {name} has no captions. Add some, or remove it.")
            joints = _Joints(f"{path}: {name}", partial(positions, start, stop), own.but(stated.get(name, {})))
            yield CaptionedMotion(name, joints, captions[name], split, source=path)


def read_pack(path: Path):
    """A function (start, stop) -> positions (frames, J, 3) in metres; clip names, offsets, and frame rate or None."""
    try:
        with open_archive(path) as archive:
            stored, scale = archive["positions"], float(archive["scale"])
            names, offsets = [str(name) for name in archive["names"]], archive["offsets"].astype(np.int64)
            rate = float(archive["fps"]) if "fps" in archive else None
    except FileNotFoundError:
        raise DataError(f"{path}: missing. A pack has train.npz, val.npz and test.npz.") from None
    except BROKEN_ARCHIVE as error:
        raise DataError(
            f"{path}: not a pack of positions, scale, offsets and names ({error}). Download or write it again."
        ) from error
    fits = len(offsets) == len(names) + 1 and offsets[-1] == len(stored) and (np.diff(offsets) >= 0).all()
    if not fits or offsets[0] != 0:
        raise DataError(f"{path}: offsets do not fit names and positions. Download or write it again.")
    return (lambda start, stop: stored[start:stop].astype(np.float64) * scale), names, offsets.tolist(), rate


def _plain(source: Path, general: Options) -> Iterator[CaptionedMotion]:
    motions_at = next((source / d for d in ("joints", JOINTS) if (source / d).is_dir()), source)
    texts_at = source / TEXTS if (source / TEXTS).is_dir() else source
    motions = {path.stem: path for path in sorted(motions_at.glob("*.npy")) if path.stem not in ("Mean", "Std")}
    texts = {
        path.stem: path
        for path in sorted(texts_at.glob("*.txt"))
        if texts_at != source or path.stem not in (*SPLITS, "all", "train_val")
    }
    if not motions:
        raise DataError(f"{motions_at}: no .npy files of joints. Put NAME.npy (frames, 22, 3) and NAME.txt there.")
    for name in sorted(texts.keys() ^ motions.keys()):
        if name in texts:
            raise DataError(f"{texts[name]}: captions without a motion. Add {motions_at / name}.npy, or remove it.")
        raise DataError(f"{motions[name]}: a motion without captions. Add {texts_at / name}.txt, or remove it.")
    split_of = given_splits(source, motions)
    options = of_files(source, motions, {}, general)
    for name in (name for name in motions if not split_of or name in split_of):
        path = motions[name]
        joints = _Joints(str(path), partial(load_array, path), options[path])
        split = split_of.get(name) or hashed_split(name)
        yield CaptionedMotion(name, joints, plain_captions(texts[name]), split, source=path)

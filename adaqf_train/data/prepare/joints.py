"""Convert arrays of joint positions, single files or packs, to HumanML3D's layout."""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adaqf_train.data.clips import load_array
from adaqf_train.data.layout import JOINTS, SPLITS, TEXTS, CaptionedMotion, write_folder
from adaqf_train.data.prepare.captions import caption_table, plain_captions
from adaqf_train.data.prepare.recordings import check_output, given_splits, hashed_split, with_mirrored
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import Skeleton, skeleton_of

LEGS = (0.4, 1.4)  # metres; the plausible range of thigh plus shank


def prepare_joints(source: Path, folder: Path, *, fps: float | None = None, mirror: bool = False) -> dict[str, int]:
    """Convert joint positions with captions to a HumanML3D folder; return the number of clips per split.

    source: a pack ({train,val,test}.npz with positions, scale, offsets and names; captions.json), or a folder of
    NAME.npy joints (T, 22 | 21, 3), Y up, with NAME.txt captions, side by side or in joints/ (or new_joints/) and
    texts/, and optional split lists. 22 joints may have any unit: they take the standard skeleton's size. 21 joints are
    in KIT-ML's unit. fps: frame rate of the source, from which clips are resampled to the skeleton's; None: the pack's
    own, else the skeleton's. mirror: add a copy M... of every training clip.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give a folder of joints and captions.")
    check_output(folder)
    clips = _pack(source, fps) if (source / "train.npz").is_file() else _plain(source, fps)
    made_from = {"joints": str(source.resolve()), "fps": fps, "mirror": mirror}
    with closing(with_mirrored(clips) if mirror else clips) as clips:
        return write_folder(folder, clips, made_from=made_from)


def resample(joints: np.ndarray, source_fps: float, target_fps: float) -> np.ndarray:
    """Resample joint positions (T, J, 3) linearly; return the same array at the same rate."""
    if source_fps == target_fps:
        return joints
    times = np.arange(0, (len(joints) - 1) / source_fps + 1e-9, 1 / target_fps) * source_fps
    below = np.minimum(times.astype(int), len(joints) - 2)
    share = (times - below)[:, None, None]
    return (1 - share) * joints[below] + share * joints[below + 1]


def _pack(source: Path, fps: float | None) -> Iterator[CaptionedMotion]:
    captions = caption_table(source / "captions.json")
    for split in SPLITS:
        path = source / f"{split}.npz"
        positions, names, offsets, rate = read_pack(path)
        spans = zip(names, itertools.pairwise(offsets), strict=True)
        with tqdm(spans, total=len(names), desc=split, unit="clip") as bar:
            for name, (start, stop) in bar:
                if name not in captions:
                    raise DataError(f"{source / 'captions.json'}: {name} has no captions. Add some, or remove it.")
                joints = partial(_at_rate, f"{path}: {name}", partial(positions, start, stop), fps or rate)
                yield CaptionedMotion(name, joints, captions[name], split, source=path)


def read_pack(path: Path):
    """A function (start, stop) -> positions (frames, J, 3) in metres; clip names, offsets, and frame rate or None."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored, scale = archive["positions"], float(archive["scale"])
            names, offsets = [str(name) for name in archive["names"]], archive["offsets"].astype(np.int64)
            rate = float(archive["fps"]) if "fps" in archive else None
    except FileNotFoundError:
        raise DataError(f"{path}: missing. A pack has train.npz, val.npz and test.npz.") from None
    except (KeyError, TypeError, ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not a pack of positions, scale, offsets and names ({error}). Download or write it again."
        ) from error
    fits = len(offsets) == len(names) + 1 and offsets[-1] == len(stored) and (np.diff(offsets) >= 0).all()
    if not fits or offsets[0] != 0:
        raise DataError(f"{path}: offsets do not fit names and positions. Download or write it again.")
    return (lambda start, stop: stored[start:stop].astype(np.float64) * scale), names, offsets.tolist(), rate


def _plain(source: Path, fps: float | None) -> Iterator[CaptionedMotion]:
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
    with tqdm([n for n in motions if not split_of or n in split_of], desc="Converting", unit="clip") as bar:
        for name in bar:
            joints = partial(_at_rate, str(motions[name]), partial(load_array, motions[name]), fps)
            split = split_of.get(name) or hashed_split(name)
            yield CaptionedMotion(name, joints, plain_captions(texts[name]), split, source=motions[name])


def _at_rate(where: str, read: Callable[[], np.ndarray], fps: float | None) -> np.ndarray:
    """Read joints at their skeleton's rate, after checks of their shape and, for KIT-ML, their unit."""
    joints = read()
    if joints.ndim != 3 or joints.shape[-1] != 3:
        raise DataError(f"{where}: shape {joints.shape}, expected joint positions (frames, 22 or 21, 3).")
    if len(joints) < 2:
        raise DataError(f"{where}: {len(joints)} frames, expected at least 2. Remove the clip.")
    try:
        skeleton = skeleton_of(joints.shape[1])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if skeleton.bone_lengths is None:
        _check_unit(where, joints, skeleton)
    return resample(joints, fps or skeleton.fps, skeleton.fps)


def _check_unit(where: str, joints: np.ndarray, skeleton: Skeleton) -> None:
    """Raise DataError unless the legs of a body that keeps its size are as long as legs are."""
    thigh, shank = (joint - 1 for joint in skeleton.leg)
    lengths = skeleton.lengths_of(torch.from_numpy(joints[0].astype(np.float64)))
    leg = float(lengths[thigh] + lengths[shank])
    if np.isfinite(leg) and not LEGS[0] <= leg / skeleton.units_per_metre <= LEGS[1]:
        raise DataError(
            f"{where}: legs of {leg:.3g} units. {skeleton.name} positions have {skeleton.units_per_metre:g} "
            "units per metre: multiply them accordingly."
        )

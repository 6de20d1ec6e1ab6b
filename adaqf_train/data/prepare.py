"""`run.py prepare`: other people's motions into HumanML3D's layout."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adaclip.files import read_json
from adaqf_train.data.dataset import load_array
from adaqf_train.data.layout import (
    JOINTS,
    ORIGIN,
    SPLITS,
    TEXTS,
    Caption,
    CaptionedMotion,
    DataError,
    parse_captions,
    read_names,
    write_folder,
)
from adaqf_train.motion.skeleton import Skeleton, skeleton_of
from adaqf_train.motion.synthetic import generate

# Where no split lists are given: shares of val and test, by a hash of the clip's name.
VAL_SHARE, TEST_SHARE = 0.05, 0.15
LEGS = (0.4, 1.4)  # metres; what a leg of thigh and shank can measure

# Longer forms first: "counter clockwise" holds "clockwise".
_MIRRORED_WORDS = {
    "counter-clockwise": "clockwise",
    "counter clockwise": "clockwise",
    "counterclockwise": "clockwise",
    "anti-clockwise": "clockwise",
    "anticlockwise": "clockwise",
    "clockwise": "counterclockwise",
    "leftwards": "rightwards",
    "rightwards": "leftwards",
    "leftward": "rightward",
    "rightward": "leftward",
    "left": "right",
    "right": "left",
}


def prepare_joints(source: Path, folder: Path, *, fps: float | None = None, mirror: bool = False) -> dict[str, int]:
    """Joint positions with captions -> a HumanML3D folder; returns the number of clips per split.

    source: a pack ({train,val,test}.npz with positions, scale, offsets, names; captions.json), or a folder of
    NAME.npy joints (T, 22 | 21, 3), Y up, with NAME.txt captions, side by side or in joints/ (or new_joints/) and
    texts/, and optional split lists. 22 joints may come in any unit: they take the standard skeleton's size; 21
    joints are in KIT-ML's own. fps: frame rate of the source; None: a pack's own, else the skeleton's, to which
    clips are resampled. mirror: add a mirrored copy M... of every training clip.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give a folder of joints and captions.")
    check_output(folder)
    clips = _pack(source, fps) if (source / "train.npz").is_file() else _plain(source, fps)
    made_from = {"joints": str(source.resolve()), "fps": fps, "mirror": mirror}
    with closing(_with_mirrored(clips) if mirror else clips) as clips:
        return write_folder(folder, clips, made_from=made_from)


def prepare_synthetic(folder: Path, *, clips: int, seed: int) -> dict[str, int]:
    """Procedural motions -> a HumanML3D folder with each clip's parameters beside it."""
    check_output(folder)
    with closing(_synthetic(clips, seed)) as motions:
        return write_folder(folder, motions, origin={"synthetic": {"clips": clips, "seed": seed}})


def is_synthetic(folder: Path, *, clips: int, seed: int) -> bool:
    """Whether `folder` is what `prepare_synthetic` writes with these settings."""
    path = folder / ORIGIN
    return path.is_file() and read_json(path) == {"synthetic": {"clips": clips, "seed": seed}}


def check_output(folder: Path) -> None:
    """Raises DataError when `folder` already holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already exists. Give another output folder, or delete this one.")


def mirrored_caption(text: str) -> str:
    """The caption of the mirrored motion: left and right, clockwise and counterclockwise swapped, case kept."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = _MIRRORED_WORDS[word.lower()]
        return other.capitalize() if word[0].isupper() else other

    return re.sub(rf"\b(?:{'|'.join(_MIRRORED_WORDS)})\b", swap, text, flags=re.IGNORECASE)


def resample(joints: np.ndarray, source_fps: float, target_fps: float) -> np.ndarray:
    """Joint positions (T, J, 3) at another frame rate, linearly between frames; the same array at the same rate."""
    if source_fps == target_fps:
        return joints
    times = np.arange(0, (len(joints) - 1) / source_fps + 1e-9, 1 / target_fps) * source_fps
    below = np.minimum(times.astype(int), len(joints) - 2)
    share = (times - below)[:, None, None]
    return (1 - share) * joints[below] + share * joints[below + 1]


def _synthetic(clips: int, seed: int) -> Iterator[CaptionedMotion]:
    with tqdm(generate(clips, seed), total=clips, desc="Generating motions", unit="clip") as bar:
        for clip in bar:
            facts = {"actions": list(clip.actions)}
            yield CaptionedMotion(clip.name, clip.joints, _whole(clip.captions), clip.split, facts)


def _with_mirrored(clips: Iterator[CaptionedMotion]) -> Iterator[CaptionedMotion]:
    for clip in clips:
        yield clip
        if clip.split == "train":
            captions = tuple(replace(caption, text=mirrored_caption(caption.text)) for caption in clip.captions)
            yield replace(clip, name=f"M{clip.name}", joints=partial(_mirrored_joints, clip), captions=captions)


def _mirrored_joints(clip: CaptionedMotion) -> np.ndarray:
    joints = clip.read()
    return skeleton_of(joints.shape[1]).mirror(torch.from_numpy(joints)).numpy()


def _pack(source: Path, fps: float | None) -> Iterator[CaptionedMotion]:
    captions = _caption_table(source / "captions.json")
    for split in SPLITS:
        path = source / f"{split}.npz"
        positions, names, offsets, rate = _read_pack(path)
        spans = zip(names, itertools.pairwise(offsets), strict=True)
        with tqdm(spans, total=len(names), desc=split, unit="clip") as bar:
            for name, (start, stop) in bar:
                if name not in captions:
                    raise DataError(
                        f"{source / 'captions.json'}: no captions for {name}. Add them, or remove the clip."
                    )
                joints = partial(_pack_joints, positions, start, stop, f"{path}: {name}", fps or rate)
                yield CaptionedMotion(name, joints, captions[name], split, source=path)


def _pack_joints(
    positions: Callable[[int, int], np.ndarray], start: int, stop: int, where: str, fps: float | None
) -> np.ndarray:
    return _at_rate(where, positions(start, stop), fps)


def _read_pack(path: Path):
    """Positions as a function of (start, stop) -> (frames, J, 3) metres, clip names, offsets, frame rate or None."""
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
    lists = {split: source / f"{split}.txt" for split in SPLITS}
    given = {split: read_names(path) for split, path in lists.items() if path.is_file()}
    texts = {
        path.stem: path
        for path in sorted(texts_at.glob("*.txt"))
        if texts_at != source or path.stem not in (*SPLITS, "all", "train_val")
    }
    if not motions:
        raise DataError(f"{motions_at}: no .npy files of joints. Put NAME.npy (frames, 22, 3) and NAME.txt there.")
    for name in sorted(texts.keys() ^ motions.keys())[:1]:
        what, path, other = (
            ("captions without a motion", texts[name], motions_at / f"{name}.npy")
            if name in texts
            else ("a motion without captions", motions[name], texts_at / f"{name}.txt")
        )
        raise DataError(f"{path}: {what}. Add {other}, or remove the file.")
    split_of = {name: split for split, names in given.items() for name in names}
    for name, split in split_of.items():
        if name not in motions:
            raise DataError(f"{lists[split]}: lists {name}, which has no {motions_at / name}.npy. Add it or remove it.")
    with tqdm([n for n in motions if not given or n in split_of], desc="Converting", unit="clip") as bar:
        for name in bar:
            path = motions[name]
            split = split_of.get(name) or _hashed_split(name)
            joints = partial(_plain_joints, path, fps)
            yield CaptionedMotion(name, joints, _plain_captions(texts[name]), split, source=path)


def _plain_joints(path: Path, fps: float | None) -> np.ndarray:
    return _at_rate(str(path), load_array(path), fps)


def _whole(texts: Iterable[str]) -> tuple[Caption, ...]:
    """Captions that describe all of a clip."""
    return tuple(Caption(text) for text in texts)


def _plain_captions(path: Path) -> tuple[Caption, ...]:
    """One caption a line, bare, or all in the official format (whose segments are kept)."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
    if not lines:
        raise DataError(f"{path}: no captions. Write one a line, or remove the clip.")
    if all(line.count("#") == 3 for line in lines):
        return tuple(parse_captions(path))
    return _whole(lines)


def _caption_table(path: Path) -> dict[str, tuple[Caption, ...]]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing. It maps each clip's name to a list of captions.") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}). It maps each clip's name to a list of captions.") from error
    if not isinstance(table, dict):
        raise DataError(f"{path}: holds a {type(table).__name__}, expected each clip's name with a list of captions.")
    for name, captions in table.items():
        texts = captions if isinstance(captions, list) else []
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError(f"{path}: {name} needs a non-empty list of captions. Add them, or remove the clip.")
    return {name: _whole(captions) for name, captions in table.items()}


def _at_rate(where: str, joints: np.ndarray, fps: float | None) -> np.ndarray:
    """Joints at their skeleton's frame rate, their shape and, for KIT-ML, their unit checked."""
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
    """Of bodies that keep their size: whether their legs are as long as legs are."""
    thigh, shank = (joint - 1 for joint in skeleton.leg)
    lengths = skeleton.lengths_of(torch.from_numpy(joints[0].astype(np.float64)))
    leg = float(lengths[thigh] + lengths[shank])
    if np.isfinite(leg) and not LEGS[0] <= leg / skeleton.units_per_metre <= LEGS[1]:
        raise DataError(
            f"{where}: legs of {leg:.3g} units. {skeleton.name} positions have {skeleton.units_per_metre:g} units a "
            "metre: multiply them accordingly."
        )


def _hashed_split(name: str) -> str:
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    if share < VAL_SHARE:
        return "val"
    return "test" if share < VAL_SHARE + TEST_SHARE else "train"

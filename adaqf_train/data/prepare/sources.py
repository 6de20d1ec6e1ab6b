"""Helpers for every kind of source: files, output folder, splits, mirrored copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adaqf_train.data.layout import SPLITS, CaptionedMotion, read_names
from adaqf_train.data.prepare.captions import mirrored_caption
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import skeleton_of

# Shares of the splits that a hash of the clip's name decides.
VAL_SHARE, TEST_SHARE = 0.05, 0.15


def check_output(folder: Path) -> None:
    """Raise DataError if `folder` exists and is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already exists. Give another output folder, or delete this one.")


def find_files(source: Path, suffix: str, name_of: Callable[[Path], str]) -> dict[str, Path]:
    """Find all files with a suffix at any depth of a folder, by name and in a fixed order.

    name_of: gives the clip's name for a path relative to `source`. DataError without files or for equal names.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give a folder of {suffix} files.")
    files: dict[str, Path] = {}
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() == suffix and path.is_file()):
        name = name_of(path.relative_to(source))
        if name in files:
            raise DataError(f"{path}: has the name of {files[name]}, and files name the clips. Rename one.")
        files[name] = path
    if not files:
        raise DataError(f"{source}: no {suffix} files. Give the folder that contains them.")
    return files


def progress(clips: Sequence[CaptionedMotion]) -> Iterator[CaptionedMotion]:
    """The clips, with a progress bar."""
    with tqdm(clips, desc="Converting", unit="clip") as bar:
        yield from bar


def given_splits(source: Path, known: Collection[str]) -> dict[str, str]:
    """The split of each name that the folder's train.txt, val.txt or test.txt lists.

    Raises:
        DataError: A name is not among the known ones, or is in two lists.
    """
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = source / f"{split}.txt"
        for name in read_names(path) if path.is_file() else ():
            if name not in known:
                raise DataError(f"{path}: lists {name}, which has no motion in {source}. Add or remove it.")
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{path}: lists {name}, as {split_of[name]}.txt does. Keep it in one of them.")
    return split_of


def hashed_split(name: str) -> str:
    """The split of a name without lists: the same on every machine, whatever other clips there are."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    if share < VAL_SHARE:
        return "val"
    return "test" if share < VAL_SHARE + TEST_SHARE else "train"


def with_mirrored(clips: Iterator[CaptionedMotion]) -> Iterator[CaptionedMotion]:
    """The clips, each of the training split followed by its mirror image M..."""
    for clip in clips:
        yield clip
        if clip.split == "train":
            captions = tuple(replace(caption, text=mirrored_caption(caption.text)) for caption in clip.captions)
            yield replace(clip, name=f"M{clip.name}", joints=partial(_mirrored_joints, clip), captions=captions)


def _mirrored_joints(clip: CaptionedMotion) -> np.ndarray:
    joints = clip.read()
    return skeleton_of(joints.shape[1]).mirror(torch.from_numpy(joints)).numpy()

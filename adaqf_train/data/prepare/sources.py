"""What every kind of source needs: a free output folder, splits, mirrored copies."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from adaqf_train.data.layout import SPLITS, CaptionedMotion, read_names
from adaqf_train.data.prepare.captions import mirrored_caption
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import skeleton_of

# Where no split lists are given: shares of val and test, by a hash of the clip's name.
VAL_SHARE, TEST_SHARE = 0.05, 0.15


def check_output(folder: Path) -> None:
    """Raises DataError when `folder` already holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already exists. Give another output folder, or delete this one.")


def given_splits(source: Path, known: Collection[str]) -> dict[str, str]:
    """The split of each name in the lists train.txt, val.txt and test.txt of a folder; empty without any list.

    DataError for a name that is not among the known ones, or is in two lists.
    """
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = source / f"{split}.txt"
        for name in read_names(path) if path.is_file() else ():
            if name not in known:
                raise DataError(f"{path}: lists {name}, which has no motion in {source}. Add it or remove it.")
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{path}: lists {name}, as {split_of[name]}.txt does. Leave it in one of them.")
    return split_of


def hashed_split(name: str) -> str:
    """Where a name belongs when no lists are given: the same split on every machine, whatever else there is."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    if share < VAL_SHARE:
        return "val"
    return "test" if share < VAL_SHARE + TEST_SHARE else "train"


def with_mirrored(clips: Iterator[CaptionedMotion]) -> Iterator[CaptionedMotion]:
    """The clips, and after each of the training split its mirror image M..."""
    for clip in clips:
        yield clip
        if clip.split == "train":
            captions = tuple(replace(caption, text=mirrored_caption(caption.text)) for caption in clip.captions)
            yield replace(clip, name=f"M{clip.name}", joints=partial(_mirrored_joints, clip), captions=captions)


def _mirrored_joints(clip: CaptionedMotion) -> np.ndarray:
    joints = clip.read()
    return skeleton_of(joints.shape[1]).mirror(torch.from_numpy(joints)).numpy()

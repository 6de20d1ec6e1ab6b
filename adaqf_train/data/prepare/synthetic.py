"""Procedural motions into HumanML3D's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from adaclip.files import read_json
from adaqf_train.data.layout import ORIGIN, CaptionedMotion, write_folder
from adaqf_train.data.prepare.captions import whole
from adaqf_train.data.prepare.sources import check_output
from adaqf_train.motion.synthetic import generate


def prepare_synthetic(folder: Path, *, clips: int, seed: int) -> dict[str, int]:
    """Procedural motions -> a HumanML3D folder with each clip's parameters beside it."""
    check_output(folder)
    with closing(_synthetic(clips, seed)) as motions:
        return write_folder(folder, motions, origin={"synthetic": {"clips": clips, "seed": seed}})


def is_synthetic(folder: Path, *, clips: int, seed: int) -> bool:
    """Whether `folder` is what `prepare_synthetic` writes with these settings."""
    path = folder / ORIGIN
    return path.is_file() and read_json(path) == {"synthetic": {"clips": clips, "seed": seed}}


def _synthetic(clips: int, seed: int) -> Iterator[CaptionedMotion]:
    with tqdm(generate(clips, seed), total=clips, desc="Generating motions", unit="clip") as bar:
        for clip in bar:
            facts = {"actions": list(clip.actions)}
            yield CaptionedMotion(clip.name, clip.joints, whole(clip.captions), clip.split, facts)

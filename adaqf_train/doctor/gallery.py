"""A page of clips from all splits and of all lengths of a data set, with their captions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adaqf_train.data.clips import load_array
from adaqf_train.data.layout import SPLITS, Caption
from adaqf_train.doctor import Clip, Examination
from adaqf_train.motion.features import decode
from adaqf_train.motion.skeleton import Skeleton, skeleton_of_width
from adaqf_train.render.page import Scene, Take, write_page
from adaqf_train.render.payload import FARTHEST

CLIPS = 12
LONGEST = 240  # frames of a clip on the page, which keeps the page near a megabyte
OTHERS = 4  # captions below the first caption of a clip


def write_gallery(path: Path, examined: Examination, *, clips: int = CLIPS, seed: int = 0) -> int:
    """Write a page that plays up to that many clips of a data set side by side, and return their number.

    Clips that cannot be shown are excluded: those without captions, and those whose joints are not finite or farther
    than FARTHEST from the origin. Without any clip no page is written.
    """
    playable = {name: clip for name, clip in examined.clips.items() if examined.captions.get(name)}
    scenes, skeleton = [], None
    for clip in choose(list(playable.values()), clips, seed):
        vectors = load_array(clip.path)[:LONGEST].astype(np.float64)
        skeleton = skeleton_of_width(vectors.shape[1])
        joints = decode(vectors) / skeleton.units_per_metre
        if np.isfinite(joints).all() and np.abs(joints).max() <= FARTHEST:
            scenes.append(_scene(clip, joints, examined.captions[clip.name], skeleton))
    if skeleton is None or not scenes:
        return 0
    title = f"{examined.folder.resolve().name}: {len(scenes)} of {len(examined.clips):,} clips"
    write_page(path, scenes, title=title, fps=skeleton.fps, summary=_summary(examined.clips, skeleton), grid=True)
    return len(scenes)


def choose(clips: Sequence[Clip], count: int, seed: int) -> list[Clip]:
    """Choose clips of every split and of all lengths: half of them from train, a quarter each from val and test.

    The clips of a split are sorted by length and divided into as many parts as clips are needed; one clip is drawn from
    each part.
    """
    rng = np.random.default_rng(seed)
    by_split = {split: [clip for clip in clips if clip.split == split] for split in (*SPLITS, None)}
    wanted = {"train": count - 2 * (count // 4), "val": count // 4, "test": count // 4, None: 0}
    wanted = {split: min(n, len(by_split[split])) for split, n in wanted.items()}
    for split, members in by_split.items():  # another split replaces the clips that a small split lacks
        wanted[split] += min(count - sum(wanted.values()), len(members) - wanted[split])
    chosen = []
    for split, members in by_split.items():
        members = sorted(members, key=lambda clip: (clip.frames, clip.name))
        bounds = np.linspace(0, len(members), wanted[split] + 1).astype(int)
        chosen += [members[rng.integers(a, b)] for a, b in itertools.pairwise(bounds)]
    return chosen


def _scene(clip: Clip, joints: np.ndarray, captions: Sequence[Caption], skeleton: Skeleton) -> Scene:
    seconds = clip.frames / skeleton.fps
    shown = f", first {len(joints) / skeleton.fps:.0f} s" if clip.frames > len(joints) else ""
    first, *others = [_text(caption) for caption in captions]
    hidden = [f"and {len(others) - OTHERS} more"] if len(others) > OTHERS else []
    note = f"{clip.split or 'in no list'} · {clip.frames} frames, {seconds:.1f} s{shown}"
    return Scene(first, (Take(clip.name, joints, note),), (*others[:OTHERS], *hidden))


def _text(caption: Caption) -> str:
    return caption.text if caption.segment is None else "{} ({:g} to {:g} s)".format(caption.text, *caption.segment)


def _summary(clips: Mapping[str, Clip], skeleton: Skeleton) -> list[dict[str, str]]:
    rows = []
    for split in SPLITS:
        if frames := [clip.frames for clip in clips.values() if clip.split == split]:
            minutes, median = sum(frames) / skeleton.fps / 60, float(np.median(frames)) / skeleton.fps
            cells = (split, f"{len(frames):,}", f"{minutes:,.1f}", f"{median:.1f} s")
            rows.append(dict(zip(("split", "clips", "minutes", "median length"), cells, strict=True)))
    return rows

"""Files of motion with captions, of any format, into a HumanML3D folder: what is used, what is skipped, and why."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaqf_train.config import DataConfig
from adaqf_train.data.layout import SPLITS, Caption, CaptionedMotion, write_folder
from adaqf_train.data.prepare.captions import caption_table, plain_captions
from adaqf_train.data.prepare.sources import check_output, given_splits, hashed_split, with_mirrored
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import HUMANML3D

FPS = HUMANML3D.fps
WINDOW = 196  # frames of the longest clip the loaders take whole
SHORTEST = DataConfig.min_frames + 1  # frames; one is lost to the velocities, and shorter clips would never be used


@dataclass(frozen=True)
class Recording:
    """A file of motion that was looked at and can be read."""

    frames: int  # at 20 fps
    read: Callable[[], np.ndarray]  # -> (frames, 22, 3), Y up


@dataclass
class Summary:
    """What became of the files."""

    clips: dict[str, int] = field(default_factory=dict)  # written, per split
    skipped: dict[str, list[str]] = field(default_factory=dict)  # reason -> names
    without_file: int = 0  # names that have captions and no file

    def skip(self, name: str, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(name)

    def lines(self) -> Iterator[str]:
        """What was left out, for people."""
        for reason, names in self.skipped.items():
            yield f"skipped {len(names)}, {reason}: {', '.join(names)}"
        if self.without_file:
            yield f"{self.without_file} captioned names have no file"


def find_files(source: Path, suffix: str, name_of: Callable[[Path], str]) -> dict[str, Path]:
    """All files of that suffix in a folder and the folders in it, by name, in a fixed order.

    name_of: a clip's name, from the file's path below `source`. DataError without files, or when two have one name.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give a folder of {suffix} files.")
    files: dict[str, Path] = {}
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() == suffix and path.is_file()):
        name = name_of(path.relative_to(source))
        if name in files:
            raise DataError(f"{path}: has the name of {files[name]}. Names are those of the clips: rename one.")
        files[name] = path
    if not files:
        raise DataError(f"{source}: no {suffix} files in it. Give the folder that holds them.")
    return files


def captions_of(files: Mapping[str, Path], table: Path | None) -> dict[str, tuple[Caption, ...]]:
    """Captions by name: of a JSON or CSV table, or of NAME.txt beside each file where there is one."""
    if table is not None:
        return caption_table(table)
    beside = {name: path.with_suffix(".txt") for name, path in files.items()}
    found = {name: plain_captions(path) for name, path in beside.items() if path.is_file()}
    if not found:
        path = next(iter(beside.values()))
        raise DataError(f"{path}: missing, and so are all others. Give --captions FILE, or put captions beside files.")
    return found


def write_recordings(
    folder: Path,
    source: Path,
    files: Mapping[str, Path],
    captions: Mapping[str, Sequence[Caption]],
    look: Callable[[Path], Recording],
    *,
    window: int = WINDOW,
    mirror: bool = False,
    made_from: Mapping[str, object],
) -> Summary:
    """Writes the files that have captions, long ones in windows NAME_w0, NAME_w1, … that share their split.

    files: by name; look: opens one; made_from: as in `write_folder`. Splits are those of lists in `source`, else drawn
    from the names. DataError, and nothing is written, when a file that would be used is damaged, no file is left, or a
    split is empty.
    """
    check_output(folder)
    if not 2 * SHORTEST <= window <= DataConfig.max_frames:
        raise DataError(f"--window {window}: expected {2 * SHORTEST} to {DataConfig.max_frames} frames of {FPS:g} fps.")
    summary = Summary(without_file=len(captions.keys() - files.keys()))
    clips = list(_plan(source, files, captions, look, window, summary))
    if not clips:
        raise DataError(f"{source}: no file is left to use. " + ". ".join(summary.lines()))
    empty = [split for split in SPLITS if split not in {clip.split for clip in clips}]
    if empty:
        raise DataError(
            f"{source}: none of {len(clips)} clips is in split {', '.join(empty)}. Say which are in "
            "which, in train.txt, val.txt and test.txt beside the files, one name a line."
        )
    made_from = {**made_from, "source": str(source.resolve()), "window": window, "mirror": mirror}
    with closing(_progress(clips)) as bar, closing(with_mirrored(bar) if mirror else bar) as every:
        summary.clips = write_folder(folder, every, made_from=made_from)
    return summary


def _plan(
    source: Path,
    files: Mapping[str, Path],
    captions: Mapping[str, Sequence[Caption]],
    look: Callable[[Path], Recording],
    window: int,
    summary: Summary,
) -> Iterator[CaptionedMotion]:
    split_of = given_splits(source, files)
    for name, path in tqdm(files.items(), desc="Looking through", unit="file"):
        if name not in captions:
            summary.skip(name, "no caption")
        elif split_of and name not in split_of:
            summary.skip(name, "in no split list")
        else:
            recording = look(path)
            if recording.frames < SHORTEST:
                summary.skip(name, f"fewer than {SHORTEST} frames at {FPS:g} fps")
                continue
            split = split_of.get(name) or hashed_split(name)
            whole = CaptionedMotion(name, recording.read, tuple(captions[name]), split, source=path)
            yield from _windows(whole, recording.frames, window)


def _windows(clip: CaptionedMotion, frames: int, window: int) -> Iterator[CaptionedMotion]:
    """A clip cut evenly into as few windows as it takes, each with the captions of what happens in it."""
    count = -(-frames // window)
    if count == 1:
        yield clip
        return
    bounds = [round(index * frames / count) for index in range(count + 1)]
    for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
        captions = tuple(_captions_within(clip.captions, start / FPS, stop / FPS))
        if captions:
            joints = partial(_cut, clip, start, stop)
            yield replace(clip, name=f"{clip.name}_w{index}", joints=joints, captions=captions)


def _cut(clip: CaptionedMotion, start: int, stop: int) -> np.ndarray:
    return clip.read()[start:stop]


def _captions_within(captions: Sequence[Caption], start: float, stop: float) -> Iterator[Caption]:
    """Captions of the whole clip, and of segments that lie at least half between two times, moved to the window."""
    for caption in captions:
        if caption.segment is None:
            yield caption
            continue
        begin, end = (min(max(time, start), stop) for time in caption.segment)
        if end - begin >= (caption.segment[1] - caption.segment[0]) / 2 > 0:
            yield replace(caption, segment=(begin - start, end - start))


def _progress(clips: Sequence[CaptionedMotion]) -> Iterator[CaptionedMotion]:
    with tqdm(clips, desc="Converting", unit="clip") as bar:
        yield from bar

"""Write motion files of any format with captions as a HumanML3D folder, and report which were skipped and why."""

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
from adaqf_train.data.prepare.sources import check_output, given_splits, hashed_split, progress, with_mirrored
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import HUMANML3D

FPS = HUMANML3D.fps
WINDOW = 196  # frames of the longest clip that the loaders use whole
SHORTEST = DataConfig.min_frames + 1  # frames; velocities cost one, and training ignores shorter clips


@dataclass(frozen=True)
class Recording:
    """A checked motion file."""

    frames: int  # at 20 fps
    read: Callable[[], np.ndarray]  # -> (frames, 22, 3), Y up


@dataclass
class Summary:
    """The outcome of a conversion."""

    clips: dict[str, int] = field(default_factory=dict)  # written, per split
    skipped: dict[str, list[str]] = field(default_factory=dict)  # reason -> names
    without_file: int = 0  # captioned names without a file

    def skip(self, name: str, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(name)

    def lines(self) -> Iterator[str]:
        """Lines about the files that were skipped, for the terminal."""
        for reason, names in self.skipped.items():
            yield f"skipped {len(names)}, {reason}: {', '.join(names)}"
        if self.without_file:
            yield f"{self.without_file} captioned names have no file"


def read_captions(files: Mapping[str, Path], table: Path | None) -> dict[str, tuple[Caption, ...]]:
    """Read captions by name, from a JSON or CSV table or from the NAME.txt files beside the motion files."""
    if table is not None:
        return caption_table(table)
    beside = {name: path.with_suffix(".txt") for name, path in files.items()}
    found = {name: plain_captions(path) for name, path in beside.items() if path.is_file()}
    if not found:
        path = next(iter(beside.values()))
        raise DataError(f"{path}: missing, like all others. Give --captions FILE, or put a .txt beside each file.")
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
    """Write the captioned files; long ones become windows NAME_w0, NAME_w1, … in one split.

    look: checks a file; made_from: as in `write_folder`. Split lists in `source` decide, else splits are drawn from the
    names. DataError, and no output, if a file to be used is damaged, no file is left, or a split is empty.
    """
    check_output(folder)
    if not 2 * SHORTEST <= window <= DataConfig.max_frames:
        raise DataError(f"--window {window}: expected {2 * SHORTEST} to {DataConfig.max_frames} frames of {FPS:g} fps.")
    summary = Summary(without_file=len(captions.keys() - files.keys()))
    clips = list(_plan(source, files, captions, look, window, summary))
    if not clips:
        raise DataError(f"{source}: no file can be used. " + ". ".join(summary.lines()))
    empty = [split for split in SPLITS if split not in {clip.split for clip in clips}]
    if empty:
        raise DataError(
            f"{source}: none of {len(clips)} clips is in split {', '.join(empty)}. List clips in train.txt, val.txt "
            "and test.txt beside the files, one name per line."
        )
    made_from = {**made_from, "source": str(source.resolve()), "window": window, "mirror": mirror}
    with closing(progress(clips)) as bar, closing(with_mirrored(bar) if mirror else bar) as every:
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
    for name, path in tqdm(files.items(), desc="Checking", unit="file"):
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
    """Cut a clip evenly into the fewest windows, each with the captions of its time."""
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
    """Captions of the whole clip, and those of segments at least half inside the window, relative to its start."""
    for caption in captions:
        if caption.segment is None:
            yield caption
            continue
        begin, end = (min(max(time, start), stop) for time in caption.segment)
        if end - begin >= (caption.segment[1] - caption.segment[0]) / 2 > 0:
            yield replace(caption, segment=(begin - start, end - start))

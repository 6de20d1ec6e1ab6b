"""Sources of motion files with captions: finds files, draws splits, mirrors clips, and writes the data set."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adaqf_train.config import DataConfig
from adaqf_train.data.layout import SPLITS, Caption, CaptionedMotion, read_names, write_folder
from adaqf_train.data.prepare.captions import mirrored_caption, plain_captions, table_of
from adaqf_train.errors import AdaQFError, DataError, FilesError
from adaqf_train.motion.skeleton import HUMANML3D, skeleton_of

FPS = HUMANML3D.fps
WINDOW = 196  # frames of the longest clip that the loaders use whole
SHORTEST = DataConfig.min_frames + 1  # frames; velocities cost one, and training ignores shorter clips


NAMED = 50  # names of skipped files that the summary lists
# Shares of the splits that a hash of the clip's name decides.
VAL_SHARE, TEST_SHARE = 0.05, 0.15


@dataclass(frozen=True)
class Recording:
    """A checked motion file."""

    frames: int  # at 20 fps
    read: Callable[[], np.ndarray]  # -> (frames, 22, 3), Y up
    notes: tuple[str, ...] = ()  # what is probably wrong with it


@dataclass
class Summary:
    """The outcome of a conversion."""

    clips: dict[str, int] = field(default_factory=dict)  # written, per split
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # reason -> names
    without_file: int = 0  # captioned names without a file
    doubts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # what may be wrong -> names

    def lines(self) -> Iterator[str]:
        """Lines about the files that were skipped, for the terminal."""
        for reason, names in self.skipped.items():
            more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
            yield f"skipped {len(names)}, {reason}: {', '.join(names[:NAMED])}{more}"
        if self.without_file:
            yield f"{self.without_file} captioned names have no file"
        for doubt, names in self.doubts.items():
            yield f"warning: {', '.join(names)}: {doubt}"


def check_output(folder: Path) -> None:
    """Raise DataError if `folder` exists and is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: already exists. Give another output folder, or delete this one.")


def find_files(source: Path, suffix: str, name_of: Callable[[Path], str]) -> dict[str, Path]:
    """All files with a suffix at any depth of a folder, by the names that `name_of` gives their relative paths."""
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


def given_splits(source: Path, known: Collection[str]) -> dict[str, str]:
    """The split of each name that the folder's train.txt, val.txt or test.txt lists; all must be known names."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = source / f"{split}.txt"
        for name in read_names(path) if path.is_file() else ():
            if name not in known:
                raise DataError(f"{path}: lists {name}, which has no motion in {source}. Add or remove it.")
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{path}: lists {name}, as {split_of[name]}.txt does. Keep it in one of them.")
    return split_of


def check_splits(source: Path, clips: Sequence[CaptionedMotion]) -> None:
    """Raise DataError if a split has no clip, before any clip is converted."""
    empty = [split for split in SPLITS if split not in {clip.split for clip in clips}]
    if empty:
        raise DataError(
            f"{source}: none of {len(clips)} clips is in split {', '.join(empty)}. List clips in train.txt, val.txt "
            "and test.txt beside the files, one name per line."
        )


def hashed_split(name: str) -> str:
    """The split of a name without lists: the same on every machine, whatever other clips there are."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    if share < VAL_SHARE:
        return "val"
    return "test" if share < VAL_SHARE + TEST_SHARE else "train"


def with_mirrored(clips: Iterable[CaptionedMotion]) -> Iterator[CaptionedMotion]:
    """The clips, each of the training split followed by its mirror image M..."""

    def mirrored(clip: CaptionedMotion) -> np.ndarray:
        joints = clip.read()
        return skeleton_of(joints.shape[1]).mirror(torch.from_numpy(joints)).numpy()

    for clip in clips:
        yield clip
        if clip.split == "train":
            captions = tuple(replace(caption, text=mirrored_caption(caption.text)) for caption in clip.captions)
            yield replace(clip, name=f"M{clip.name}", joints=partial(mirrored, clip), captions=captions)


Table = tuple[dict[str, tuple[Caption, ...]], dict[str, dict[str, object]]]  # captions and options by name


def read_captions(files: Mapping[str, Path], table: Path | None) -> Table:
    """Read captions and options by name from a JSON or CSV table; None: captions from NAME.txt beside each file."""
    if table is not None:
        return table_of(table)
    beside = {name: path.with_suffix(".txt") for name, path in files.items()}
    found = {name: plain_captions(path) for name, path in beside.items() if path.is_file()}
    if not found:
        path = next(iter(beside.values()))
        raise DataError(f"{path}: missing, like all others. Give --captions FILE, or put a .txt beside each file.")
    return found, {}


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

    look: checks a file; window: most frames of a clip; mirror: add a copy M... of every training clip; made_from: as in
    `write_folder`. Split lists in `source` decide, else splits are drawn from the names. DataError, and no output, if a
    file to be used is damaged, no file is left, or a split is empty.
    """
    check_output(folder)
    if not 2 * SHORTEST <= window <= DataConfig.max_frames:
        raise DataError(f"--window {window}: expected {2 * SHORTEST} to {DataConfig.max_frames} frames of {FPS:g} fps.")
    summary = Summary(without_file=len(captions.keys() - files.keys()))
    clips = list(_plan(source, files, captions, look, window, summary))
    if not clips:
        raise DataError(f"{source}: no file can be used. " + ". ".join(summary.lines()) + ". Give longer files.")
    check_splits(source, clips)
    made_from = {**made_from, "source": str(source.resolve()), "window": window, "mirror": mirror}
    with tqdm(clips, desc="Converting", unit="clip") as bar:
        summary.clips = write_folder(folder, with_mirrored(bar) if mirror else bar, made_from=made_from)
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
    faults: list[tuple[str, DataError]] = []
    for name, path in tqdm(files.items(), desc="Checking", unit="file"):
        if name not in captions:
            summary.skipped["no caption"].append(name)
            continue
        if split_of and name not in split_of:
            summary.skipped["in no split list"].append(name)
            continue
        try:
            recording = look(path)
        except DataError as error:
            faults.append((str(path), error))
            continue
        for note in recording.notes:
            summary.doubts[note].append(name)
        if recording.frames < SHORTEST:
            summary.skipped[f"fewer than {SHORTEST} frames at {FPS:g} fps"].append(name)
        else:
            split = split_of.get(name) or hashed_split(name)
            whole = CaptionedMotion(name, recording.read, tuple(captions[name]), split, source=path)
            yield from _windows(whole, recording.frames, window)
    refuse(faults)


def examine_all(examinations: Sequence[tuple[str, Callable[[], tuple[str, ...]]]]) -> None:
    """Run examinations by place; print what is doubtful, and raise the errors of all places at once."""
    faults: list[tuple[str, DataError]] = []
    doubts: dict[str, list[str]] = defaultdict(list)
    for where, examine in tqdm(examinations, desc="Checking", unit="clip"):
        try:
            for doubt in examine():
                doubts[doubt].append(where)
        except DataError as error:
            faults.append((where, error))
    refuse(faults)
    for doubt, places in doubts.items():
        print(f"warning: {', '.join(places)}: {doubt}", file=sys.stderr)


def refuse(faults: Sequence[tuple[str, AdaQFError]]) -> None:
    """Raise the errors of all files at once, a line for each fault, which names all files that have it."""
    if not faults:
        return
    if len(faults) == 1:
        raise faults[0][1]
    files_of: dict[str, list[str]] = defaultdict(list)
    for path, error in faults:
        files_of[str(error).removeprefix(f"{path}: ")].append(path)
    lines = [text if text.startswith(paths[0]) else f"{', '.join(paths)}: {text}" for text, paths in files_of.items()]
    raise FilesError([f"{len(faults)} files cannot be used, for {len(lines)} reasons:", *lines] if lines[1:] else lines)


def _windows(clip: CaptionedMotion, frames: int, window: int) -> Iterator[CaptionedMotion]:
    """Cut a clip evenly into the fewest windows, each with the captions of its time."""
    count = -(-frames // window)
    if count == 1:
        yield clip
        return
    bounds = [round(index * frames / count) for index in range(count + 1)]
    for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
        if captions := tuple(_captions_within(clip.captions, start / FPS, stop / FPS)):
            joints = partial(lambda start, stop: clip.read()[start:stop], start, stop)
            yield replace(clip, name=f"{clip.name}_w{index}", joints=joints, captions=captions)


def _captions_within(captions: Sequence[Caption], start: float, stop: float) -> Iterator[Caption]:
    """Captions of the whole clip, and those of segments at least half inside the window, relative to its start."""
    for caption in captions:
        if caption.segment is None:
            yield caption
            continue
        begin, end = (min(max(time, start), stop) for time in caption.segment)
        if end - begin >= (caption.segment[1] - caption.segment[0]) / 2 > 0:
            yield replace(caption, segment=(begin - start, end - start))

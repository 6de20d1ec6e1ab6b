"""Make the part of HumanML3D that comes from the CMU database, which is free, without AMASS.

HumanML3D's index.csv gives for each clip the file of AMASS, and the frames at 20 fps. Files of AMASS's CMU subset have
the numbers of CMU's takes, of which BVH conversions exist: CMU/02/02_01_poses.npy is the take 02_01.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adaqf_train.data.layout import SPLITS, Caption, CaptionedMotion, parse_lines, read_names, write_folder
from adaqf_train.data.prepare.captions import mirrored_caption
from adaqf_train.data.prepare.recordings import FPS, SHORTEST, Summary, check_output, find_files, refuse
from adaqf_train.errors import DataError
from adaqf_train.motion import kinematics, mapping, orientation
from adaqf_train.motion.bvh import Bvh, read_bvh
from adaqf_train.motion.physics import travelling_speed
from adaqf_train.motion.skeleton import HUMANML3D

COLUMNS = ("source_path", "start_frame", "end_frame", "new_name")
TAKE = re.compile(r"(?:^|/)CMU/\d+/(\d+_\d+)(?:_poses|_stageii)?\.(?:npy|npz)$", re.IGNORECASE)
NUMBERS = re.compile(r"0*(\d+)_0*(\d+)")
REST = 1  # frames before the motion in the usual conversions, if none is found
LATE = 3  # frames at 20 fps by which a clip may end after its take, as counts of frames differ by conversion
WALKS = re.compile(r"\bwalk(?:s|ing|ed)?\b", re.IGNORECASE)
WALKING = (0.35, 2.2)  # metres per second, median over clips whose captions all mention walking
WALKERS = 5


@dataclass(frozen=True)
class Entry:
    """A row of index.csv that names a take of CMU."""

    name: str  # of the clip, such as 000021
    take: str  # such as 2_1
    start: int  # frames at 20 fps
    stop: int


@dataclass
class FreeSummary(Summary):
    """The outcome, with the check of the alignment."""

    entries: int = 0  # clips of index.csv from CMU
    made: int = 0  # of them, without mirror images
    walking: float | None = None  # metres per second, median of clips with captions of walking

    def lines(self) -> Iterator[str]:
        """Lines for the terminal."""
        yield from super().lines()
        mirrored = ", with their mirror images" if sum(self.clips.values()) > self.made else ""
        yield f"{self.entries} clips of index.csv come from CMU, of which {self.made} were written{mirrored}"
        if self.walking is not None:
            yield f"people walk at {self.walking:.2f} m/s (median), so frames and rates fit"


def prepare_humanml3d_free(
    source: Path,
    folder: Path,
    *,
    index: Path,
    texts: Path,
    splits: Path | None = None,
    fps: float | None = None,
    mirror: bool = False,
) -> FreeSummary:
    """Make HumanML3D's clips of the CMU database from BVH files.

    Args:
        source: A folder of BVH files at any depth, named by take: 02_01.bvh.
        folder: The folder to write.
        index: HumanML3D's index.csv.
        texts: HumanML3D's texts/, unzipped.
        splits: A folder with HumanML3D's train.txt, val.txt and test.txt; None: the folder of index.csv.
        fps: Frame rate of the takes; None: the rate that each file states.
        mirror: Add the mirrored clip M... of every clip, with the captions of texts/M....txt if it exists.

    Returns:
        Counts, what was skipped, and the speed of walks.

    Raises:
        DataError: Input is missing or damaged, or clips and takes do not fit together in time.
    """
    check_output(folder)
    entries = read_index(index)
    files = {_take(path.stem): path for path in find_files(source, ".bvh", lambda path: path.stem).values()}
    split_of = _splits(splits or index.parent)
    summary = FreeSummary(entries=len(entries))
    takes = _Takes(fps)
    clips = list(_clips(entries, files, split_of, texts, takes, summary))
    if not clips:
        raise DataError(f"{source}: no clip of {index} can be made. " + ". ".join(summary.lines()))
    _check_walks(clips, summary)
    summary.made = len(clips)
    every = [copy for clip in clips for copy in ((clip, _mirrored(clip, texts)) if mirror else (clip,))]
    made_from = {"humanml3d-free": str(source.resolve()), "index": str(index.resolve()), "fps": fps, "mirror": mirror}
    with tqdm(every, desc="Converting", unit="clip") as bar:
        summary.clips = write_folder(folder, bar, made_from=made_from, origin={"humanml3d-free": {"mirror": mirror}})
    return summary


def read_index(path: Path) -> list[Entry]:
    """Read the clips of index.csv that come from CMU; DataError names the line of a fault."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
                raise DataError(f"{path}: no column {', '.join(missing)}. Give HumanML3D's index.csv.")
            found = [entry for row in rows if (entry := _entry(row, f"{path}, line {rows.line_num}")) is not None]
    except FileNotFoundError:
        raise DataError(f"{path}: missing. Take index.csv from the repository of HumanML3D.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: not CSV in UTF-8 ({error}). Take index.csv from the repository of HumanML3D."
        ) from error
    if not found:
        raise DataError(f"{path}: no clip from CMU (source_path …/CMU/02/02_01_poses.npy). Give HumanML3D's index.csv.")
    return found


def _entry(row: Mapping[str, str | None], where: str) -> Entry | None:
    """The entry of a row, None if it is not from CMU."""
    take = TAKE.search((row["source_path"] or "").replace("\\", "/"))
    if take is None:
        return None
    try:
        start, stop = int(row["start_frame"] or ""), int(row["end_frame"] or "")
    except ValueError:
        raise DataError(f"{where}: start_frame and end_frame must be whole numbers. Correct the line.") from None
    if not 0 <= start < stop:
        raise DataError(f"{where}: frames {start} to {stop} are no clip. Correct the line.")
    return Entry(Path(row["new_name"] or "").stem, _take(take[1]), start, stop)


def _take(name: str) -> str:
    """The numbers of a take: 02_01, 2_1 and 02_01_poses are 2_1; other names stay as they are."""
    found = NUMBERS.match(name)
    return f"{found[1]}_{found[2]}" if found else name


def _splits(folder: Path) -> dict[str, str]:
    """The split of every clip; DataError if a list is missing."""
    split_of = {}
    for split in SPLITS:
        path = folder / f"{split}.txt"
        if not path.is_file():
            raise DataError(f"{path}: missing. Give the folder of HumanML3D's split lists as --splits.")
        split_of |= dict.fromkeys(read_names(path), split)
    return split_of


@dataclass
class _Takes:
    """Reads takes as standard joints (T, 22, 3) at 20 fps, without their rest pose."""

    fps: float | None
    rest: dict[Path, int] = field(default_factory=dict)  # frames to skip

    def __post_init__(self) -> None:
        self.read = lru_cache(maxsize=2)(self._read)  # the clips of a take are read one after the other

    def look(self, path: Path) -> int:
        """Examine a take and return its number of frames at 20 fps; DataError if it must not be used."""
        bvh, joints = _standard(path)
        if self.fps is None and (fault := orientation.check_frame_time(bvh.frame_time)):
            raise DataError(f"{path}: {fault}")
        rate = self.fps or bvh.fps
        faults = {fault.kind: fault for fault in orientation.examine(joints, rate, any_unit=True)}
        for kind in ("finite", "collapsed", "mirrored"):
            if kind in faults:
                raise DataError(f"{path}: {faults[kind]}")
        start = faults["start"].value if "start" in faults else REST
        self.rest[path] = int(start or REST)
        return kinematics.frames_at(max(len(joints) - REST, 0), rate, FPS)

    def _read(self, path: Path) -> np.ndarray:
        bvh = read_bvh(path)
        translations, turns = (part[REST:] for part in bvh.local())
        local = kinematics.resample(translations, turns, self.fps or bvh.fps, FPS)
        joints = _mapped(path, bvh, kinematics.forward(*local, bvh.parents)[0].numpy())
        # A rest pose that fades into the motion would set the floor: the first sound frame stands for it.
        fading = int(np.ceil((self.rest[path] - REST) * FPS / (self.fps or bvh.fps)))
        return np.concatenate([np.repeat(joints[fading : fading + 1], fading, axis=0), joints[fading:]])


def _standard(path: Path) -> tuple[Bvh, np.ndarray]:
    bvh = read_bvh(path)
    return bvh, _mapped(path, bvh, bvh.positions())


def _mapped(path: Path, bvh: Bvh, positions: np.ndarray) -> np.ndarray:
    points = mapping.map_for(bvh.names, None, path)
    return (mapping.weights(bvh.names, points, path) @ torch.from_numpy(positions)).numpy()


def _clips(
    entries: Sequence[Entry],
    files: Mapping[str, Path],
    split_of: Mapping[str, str],
    texts: Path,
    takes: _Takes,
    summary: FreeSummary,
) -> Iterator[CaptionedMotion]:
    """The clips whose take, captions and split exist, in the order of takes; faults of all takes are raised at once."""
    by_take: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_take[entry.take].append(entry)
    faults: list[tuple[str, DataError]] = []
    for take, of_take in tqdm(by_take.items(), desc="Checking", unit="take"):
        names = [entry.name for entry in of_take]
        if take not in files:
            summary.skipped["no BVH file of the take"] += names
            continue
        try:
            frames = takes.look(files[take])
            _check_end(files[take], of_take, frames)
        except DataError as error:
            faults.append((str(files[take]), error))
            continue
        for entry in of_take:
            if entry.name not in split_of:
                summary.skipped["in no split list"].append(entry.name)
            elif not (texts / f"{entry.name}.txt").is_file():
                summary.skipped["no captions"].append(entry.name)
            elif entry.stop - entry.start < SHORTEST:
                summary.skipped[f"fewer than {SHORTEST} frames"].append(entry.name)
            else:
                joints = partial(_cut, takes, files[take], entry)
                captions = _captions(texts / f"{entry.name}.txt")
                yield CaptionedMotion(entry.name, joints, captions, split_of[entry.name], source=files[take])
    refuse(faults)


def _check_end(path: Path, entries: Sequence[Entry], frames: int) -> None:
    """Raise DataError if clips end after their take, the sign of another frame rate or of another take."""
    last = max(entry.stop for entry in entries)
    if last <= frames + LATE:
        return
    rate = f" The rate would fit with --fps of {frames / last:.3g} times the one stated." if frames else ""
    raise DataError(
        f"{path}: {frames} frames at {FPS:g} fps, but index.csv cuts a clip up to frame {last}.{rate} "
        "Give the conversion of the whole take."
    )


def _cut(takes: _Takes, path: Path, entry: Entry) -> np.ndarray:
    return takes.read(path)[entry.start : entry.stop]


def _captions(path: Path) -> tuple[Caption, ...]:
    return tuple(parse_lines(path.read_bytes(), str(path)))


def _mirrored(clip: CaptionedMotion, texts: Path) -> CaptionedMotion:
    """The mirrored clip, with HumanML3D's own captions of it where they exist."""
    beside = texts / f"M{clip.name}.txt"
    own = tuple(replace(caption, text=mirrored_caption(caption.text)) for caption in clip.captions)
    captions = _captions(beside) if beside.is_file() else own
    return replace(clip, name=f"M{clip.name}", joints=lambda: _mirror(clip.read()), captions=captions)


def _mirror(joints: np.ndarray) -> np.ndarray:
    return HUMANML3D.mirror(torch.from_numpy(joints)).numpy()


def _check_walks(clips: Sequence[CaptionedMotion], summary: FreeSummary) -> None:
    """Measure the speed of walks; DataError for one that tells of a wrong frame rate or of wrong frames."""
    walks = [clip for clip in clips if all(WALKS.search(caption.text) for caption in clip.captions)][:200]
    if len(walks) < WALKERS:
        return
    speeds = []
    for clip in walks:
        joints = clip.read()
        speeds.append(travelling_speed(joints * (orientation.LEG / orientation.leg_length(joints)), HUMANML3D))
    summary.walking = float(np.median(speeds))
    if not WALKING[0] <= summary.walking <= WALKING[1]:
        raise DataError(
            f"people walk at {summary.walking:.2f} m/s (median of {len(walks)} clips with captions of walking): frame "
            "rate and frames do not fit index.csv. Give the rate of the files with --fps, usually 120."
        )

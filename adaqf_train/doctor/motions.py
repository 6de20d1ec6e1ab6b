"""One pass over the motion files: finds the usable ones, and collects sums for later checks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaqf_train.data.clips import BROKEN_ARRAY, check_array_size, digest_of, read_vectors
from adaqf_train.data.dataset import OFFICIAL_NAN_CLIPS
from adaqf_train.data.layout import SPLITS, VECTORS, RunningStatistics
from adaqf_train.doctor.findings import Clip, Examination
from adaqf_train.errors import DataError
from adaqf_train.motion.features import slices_of_width
from adaqf_train.motion.skeleton import HUMANML3D, KIT

Statistics = tuple[np.ndarray, np.ndarray]  # Mean and Std (D,)
WIDTHS = {skeleton.features: skeleton for skeleton in (HUMANML3D, KIT)}
BIG = 500  # number of files from which a progress bar is shown
EXPLODED = 20.0  # standard deviations; official clips reach 25 in single frames
EXPLODED_SHARE = 0.2  # of a clip's frames; single frames jump where the heading is ill-defined or crosses 180 degrees
CONSTANT = 1e-7  # range below which a feature counts as constant, in its unit
STIFF = 3  # number of joints that may never turn, as interpolated points do

PREPARE = "Convert raw joints with: adaqf prepare joints SRC OUT."


class Motions:
    """The results of the pass."""

    def __init__(self, width: int) -> None:
        self.width, self.training, self.everything = width, RunningStatistics(width), RunningStatistics(width)
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)  # (D,) least and largest values
        self.peak = np.zeros(width)  # (D,) largest |normalised| value; zero without statistics
        self.sample: dict[str, np.ndarray] = {}  # clips to decode
        self.digests: dict[str, list[str]] = defaultdict(list)  # digest of the content -> names
        self.exploded: dict[str, float] = {}  # name -> share of frames beyond EXPLODED
        self.odd_contacts: list[str] = []  # clips whose labels are not 0 or 1

    def add(self, name: str, vectors: np.ndarray, statistics: Statistics | None, train: bool) -> None:
        """Add a clip (N, D)."""
        self.digests[digest_of(vectors)].append(name)
        self.everything.add(vectors)
        if train:
            self.training.add(vectors)
        np.minimum(self.low, vectors.min(axis=0), out=self.low)
        np.maximum(self.high, vectors.max(axis=0), out=self.high)
        labels = vectors[:, slices_of_width(self.width).contacts]
        if not ((labels == 0) | (labels == 1)).all():
            self.odd_contacts.append(name)
        if statistics is None:
            return
        normalised = np.abs((vectors - statistics[0]) / statistics[1])
        share = float((normalised > EXPLODED).any(axis=1).mean())
        if share > EXPLODED_SHARE:
            self.exploded[name] = share
        np.maximum(self.peak, normalised.max(axis=0), out=self.peak)


def common_width(files: Mapping[str, Path], mean: np.ndarray | None) -> int | None:
    """The standard width of most files, else the width of the statistics; None without either."""
    paths = list(files.values())
    seen = Counter(width for path in paths[:: max(1, len(paths) // 200)] if (width := _width(path)) in WIDTHS)
    if seen:
        return seen.most_common(1)[0][0]
    return len(mean) if mean is not None else None


def scan(
    found: Examination,
    files: Mapping[str, Path],
    split_of: Mapping[str, str],
    width: int,
    statistics: Statistics | None,
    keep: Collection[str],
) -> Motions:
    """Read every file once, fill `found.clips` and note unusable files.

    statistics: Mean and Std (D,) that fit, or None. keep: names of the clips to keep in memory.
    """
    motions = Motions(width)
    faulty: dict[str, list[str]] = defaultdict(list)  # remedy -> places
    excluded = []
    for name, path in tqdm(files.items(), desc="Reading motions", unit="clip", disable=len(files) < BIG):
        try:
            vectors = read_vectors(path, width)
            if not len(vectors):
                raise DataError(f"{path}: no frames. Restore it, or remove the clip from the split lists.")
        except DataError as error:
            fault, _, remedy = str(error).removeprefix(f"{path}: ").rpartition(". ")
            if fault.startswith("NaN") and name in OFFICIAL_NAN_CLIPS:
                excluded.append(path.name)
            else:
                faulty[remedy].append(f"{path.name}: {fault}")
            continue
        found.clips[name] = Clip(name, path, len(vectors), split_of.get(name))
        if name in keep:
            motions.sample[name] = vectors
        motions.add(name, vectors, statistics, split_of.get(name) == "train")
    for remedy, places in faulty.items():
        found.error(f"{VECTORS} contains files that cannot be used", places, remedy)
    found.note("NaN in the official release, and ignored", excluded, "None needed: readers skip them.")
    return motions


def check_values(found: Examination, motions: Motions) -> None:
    """Note constant features, extreme features, and contact labels other than 0 and 1."""
    if not found.clips:
        return
    groups = slices_of_width(motions.width).groups()
    constant = motions.high - motions.low < CONSTANT
    turns = groups["rotations"]
    stiff = constant[turns].reshape(-1, 6).all(axis=1)  # of joints 1..J-1
    if stiff.sum() <= STIFF:
        constant[turns] &= ~np.repeat(stiff, 6)
        joints = [joint for joint, flag in zip(WIDTHS[motions.width].joints[1:], stiff, strict=True) if flag]
        remedy = "None needed for a point interpolated between two joints, such as spine3 of many captures."
        found.note("joints that never turn against their parent", joints, remedy)
    flat = [f"{g} ({constant[at].sum()} of {constant[at].size})" for g, at in groups.items() if constant[at].any()]
    remedy = "Check the program that wrote them: a moving body changes all features."
    found.warning("features that have one value in every frame of every clip", flat, remedy)
    worst = sorted(motions.exploded, key=motions.exploded.__getitem__, reverse=True)
    found.warning(
        f"features beyond {EXPLODED:g} standard deviations in more than {EXPLODED_SHARE:.0%} of a clip's frames",
        [f"{name}.npy ({motions.exploded[name]:.0%})" for name in worst],
        "View these clips with --gallery; check their units, and that Mean.npy and Std.npy are this folder's.",
    )
    odd = [f"{name}.npy" for name in motions.odd_contacts]
    remedy = "Store the labels, like all features, before normalisation."
    found.warning("foot contact labels other than 0 and 1", odd, remedy)
    if motions.peak.any():
        largest = {group: round(float(motions.peak[at].max()), 1) for group, at in groups.items()}
        found.facts["largest_normalised_value"] = largest


def check_copies(found: Examination, motions: Motions) -> None:
    """Note files with equal content."""
    across, within = [], []
    for names in motions.digests.values():
        splits = {found.clips[name].split for name in names} - {None}
        if len(names) > 1:
            (across if len(splits) > 1 else within).append(" = ".join(sorted(names)[:3]))
    found.warning("the same motion in several splits: test clips were trained on", across, "Keep one of each.")
    found.note("the same motion under several names", within, "Keep one of each, with all captions.")


def check_lengths(found: Examination, shortest: int, longest: int) -> None:
    """Add facts about the lengths of clips, and note those that the readers' filter omits."""
    frames = np.array([clip.frames for clip in found.clips.values()])
    if not len(frames):
        return
    skeleton = WIDTHS[found.facts["features"]]
    found.facts["minutes"] = round(float(frames.sum()) / skeleton.fps / 60, 1)
    percentiles = {"min": 0, "5%": 5, "median": 50, "95%": 95, "max": 100}
    found.facts["frames"] = {name: int(np.percentile(frames, at)) for name, at in percentiles.items()}
    outside = [clip for clip in found.clips.values() if not shortest <= clip.frames <= longest]
    found.facts["outside_length_filter"] = len(outside)
    found.note(
        f"{len(outside) / len(frames):.1%} of the clips are not {shortest} to {longest} frames long, and omitted",
        [f"{clip.name}.npy ({clip.frames})" for clip in outside],
        "To use them, cut long clips into windows, or change data.min_frames and data.max_frames.",
    )
    remedy = "Change data.min_frames and data.max_frames, or the frame rate of the clips."
    of_split, unused = (Counter(clip.split for clip in clips) for clips in (found.clips.values(), outside))
    for split in SPLITS:
        if of_split[split] and of_split[split] == unused[split]:
            found.error(f"no clip of the split is {shortest} to {longest} frames long", f"{split}.txt", remedy)


def _width(path: Path) -> int | None:
    """Features per frame according to the file's header; None if it has no width."""
    try:
        check_array_size(path)
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (AttributeError, *BROKEN_ARRAY):  # the former: an archive
        return None
    return shape[1] if len(shape) == 2 else None

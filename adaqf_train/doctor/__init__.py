"""Examine a data folder: `adaqf doctor`. Every fault is a finding with a remedy, never an exception."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from adaqf_train.data.clips import ClipFiles
from adaqf_train.data.layout import SPLITS, VECTORS
from adaqf_train.data.official import locate
from adaqf_train.doctor import motions, splits
from adaqf_train.doctor.bodies import check_bodies
from adaqf_train.doctor.findings import COLOURS, Clip, Examination, Finding
from adaqf_train.doctor.statistics import check_evaluators, check_statistics, official, read_statistics
from adaqf_train.doctor.texts import check_segments, check_texts, describe
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import HUMANML3D, KIT

__all__ = ["SAMPLE", "Clip", "Examination", "Finding", "examine"]

SAMPLE = 500  # clips that are decoded; all others are only read
SHORTEST = {"humanml3d": 40, "kit": 24}  # frames that upstream's loader keeps, up to LONGEST
LONGEST = 199


def examine(folder: str | Path, *, sample: int = SAMPLE, seed: int = 0) -> Examination:
    """Examine a data folder in HumanML3D's layout, or a folder that contains one; bad data never raise.

    sample: number of clips to decode, which `seed` chooses, for the checks that need positions.
    """
    found = Examination(Path(folder))
    try:
        found.folder = locate(found.folder)
    except DataError as error:
        what, _, remedy = str(error).partition(". ")
        found.error("there is no data set", what, remedy)
        if not found.folder.is_dir():
            return found
    folder = found.folder
    lists = splits.read_splits(found, folder)
    split_of = splits.check_overlaps(found, lists)
    splits.check_derived(found, folder, lists)
    statistics = read_statistics(found, folder)
    files = {path.stem: path for path in sorted((folder / VECTORS).glob("*.npy"))}
    width = motions.common_width(files, None if statistics is None else statistics[0])
    claims = official(statistics) or splits.official_names(lists)
    splits.check_counts(found, lists, width, claims)
    captions = found.captions = check_texts(found, ClipFiles(folder))
    splits.check_pairs(found, lists, files, captions, lost="warning" if width == KIT.features else "error")
    if not files:
        found.error("no motions", f"{VECTORS}/", "Put NAME.npy (frames, 263 or 251) there: adaqf prepare joints.")
    check_evaluators(found, folder, width, claims)
    describe(found, captions)

    skeleton = motions.WIDTHS.get(width or 0, HUMANML3D)  # without a standard width every file is a finding
    fits = statistics if statistics is not None and len(statistics[0]) == skeleton.features else None
    keep = set(np.random.default_rng(seed).permutation(list(files))[:sample].tolist())
    scanned = motions.scan(found, files, split_of, skeleton.features, fits, keep)
    kind = {"skeleton": skeleton.name, "features": skeleton.features, "fps": skeleton.fps}
    if skeleton is HUMANML3D:  # KIT-ML's own files cannot be distinguished from others
        kind["official"] = claims
    found.facts = kind | found.facts
    usable = Counter(clip.split for clip in found.clips.values())
    found.facts["motions"] = {"files": len(files), "usable": len(found.clips)} | {s: usable[s] for s in SPLITS}
    check_statistics(found, scanned, statistics)
    motions.check_values(found, scanned)
    motions.check_copies(found, scanned)
    motions.check_lengths(found, SHORTEST[skeleton.name], LONGEST)
    check_segments(found, captions, skeleton.fps)
    if found.clips:
        _, std = scanned.everything.result()
        check_bodies(found, folder, scanned.sample, captions, std)
    found.findings.sort(key=lambda finding: list(COLOURS).index(finding.level))
    return found

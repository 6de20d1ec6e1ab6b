"""`adaqf doctor`: is this folder a data set to train and to report figures on?

`examine` looks at a folder in HumanML3D's layout: what is missing, unreadable, doubled or leaking, in whose units and
statistics it is, and whether what it decodes to can be a person. It goes through to the end whatever it meets:
everything is a Finding with a remedy.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from adaqf_train.data.clips import ClipFiles
from adaqf_train.data.layout import SPLITS, VECTORS
from adaqf_train.data.official import locate
from adaqf_train.doctor.bodies import check_bodies
from adaqf_train.doctor.findings import COLOURS, Clip, Examination, Finding
from adaqf_train.doctor.motions import (
    WIDTHS,
    check_copies,
    check_lengths,
    check_values,
    common_width,
    motion_files,
    scan,
)
from adaqf_train.doctor.splits import (
    check_counts,
    check_derived,
    check_overlaps,
    check_pairs,
    official_names,
    read_splits,
)
from adaqf_train.doctor.statistics import check_evaluators, check_statistics, official, read_statistics
from adaqf_train.doctor.texts import check_segments, check_texts, describe, text_files
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import HUMANML3D, KIT

__all__ = ["SAMPLE", "Clip", "Examination", "Finding", "examine"]

SAMPLE = 500  # clips that are decoded; the rest is read once
SHORTEST = {"humanml3d": 40, "kit": 24}  # frames that upstream's loader keeps, up to LONGEST
LONGEST = 199


def examine(folder: str | Path, *, sample: int = SAMPLE, seed: int = 0) -> Examination:
    """Looks through a folder in HumanML3D's layout (263-d or 251-d). Bad data never raise.

    sample: number of clips to decode for what only positions show, drawn from seed.
    """
    found = Examination(Path(folder))
    try:
        found.folder = folder = locate(found.folder)
    except DataError as error:
        what, _, remedy = str(error).partition(". ")
        found.add("error", "there is no data set to look at", what, remedy)
        if not found.folder.is_dir():
            return found
        folder = found.folder
    lists = read_splits(found, folder)
    split_of = check_overlaps(found, lists)
    check_derived(found, folder, lists)
    statistics = read_statistics(found, folder)
    files = motion_files(folder)
    width = common_width(files, None if statistics is None else statistics[0])
    claims = official(statistics) or official_names(lists)
    check_counts(found, lists, width, claims)
    captions = check_texts(found, text_files(found, ClipFiles(folder)))
    found.captions = captions
    check_pairs(found, lists, files, captions, lost="warning" if width == KIT.features else "error")
    if not files:
        found.add(
            "error", "no motions", f"{VECTORS}/", "Put NAME.npy (frames, 263 or 251) there: adaqf prepare joints."
        )
    check_evaluators(found, folder, width, claims)
    describe(found, captions)

    # Without a standard width every file is wrong, and says so.
    skeleton = WIDTHS.get(width or 0, HUMANML3D)
    fits = statistics is not None and len(statistics[0]) == skeleton.features
    motions = scan(
        found,
        files,
        split_of,
        skeleton.features,
        statistics if fits else None,
        set(np.random.default_rng(seed).permutation(list(files))[:sample].tolist()),
    )
    kind = {"skeleton": skeleton.name, "features": skeleton.features, "fps": skeleton.fps}
    if skeleton is HUMANML3D:  # nothing here tells KIT-ML's own files from others of its layout
        kind["official"] = claims
    found.facts = kind | found.facts
    usable = Counter(clip.split for clip in found.clips.values())
    found.facts["motions"] = {"files": len(files), "usable": len(found.clips)} | {s: usable[s] for s in SPLITS}
    check_statistics(found, motions, statistics)
    check_values(found, motions)
    check_copies(found, motions)
    check_lengths(found, SHORTEST[skeleton.name], LONGEST)
    check_segments(found, captions, skeleton.fps)
    if found.clips:
        _, std = motions.everything.result()
        check_bodies(found, folder, motions.sample, captions, std)
    found.findings.sort(key=lambda finding: list(COLOURS).index(finding.level))
    return found

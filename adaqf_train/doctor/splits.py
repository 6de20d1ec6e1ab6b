"""Checks of the split lists: missing clips, leaks from training to test, and completeness."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from adaqf_train.data.dataset import OFFICIAL_NAN_CLIPS
from adaqf_train.data.layout import SPLITS, TEXTS, VECTORS, Caption, read_names
from adaqf_train.doctor.findings import Examination, Level
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import HUMANML3D

OFFICIAL_COUNTS = {"train": 23_384, "val": 1_460, "test": 4_384}  # names in HumanML3D's lists
# First names of HumanML3D's lists; six digits alone would make many data sets official.
OFFICIAL_NAMES = {
    "train": {"000001", "000002", "000003"},
    "val": {"012698", "012808", "008646"},
    "test": {"004822", "014457", "009613"},
}
DERIVED = {"train_val": ("train", "val"), "all": SPLITS}
WINDOW = re.compile(r"(.+)_w\d+")  # NAME_w0, NAME_w1: windows of one recording
RESTORE = "Restore the files, or remove the names from the lists."


def read_splits(found: Examination, folder: Path) -> dict[str, list[str]]:
    """The unique names of each list; notes lists that are missing or empty, or contain a name twice."""
    lists: dict[str, list[str]] = {}
    missing, bad, twice = [], [], []
    for split in SPLITS:
        path = folder / f"{split}.txt"
        try:
            names = read_names(path)
        except FileNotFoundError:
            missing.append(path.name)
        except DataError as error:
            bad.append(str(error).removeprefix(f"{folder}/"))
        except OSError as error:
            bad.append(f"{path.name}: {error.strerror}")
        else:
            twice += [f"{path.name}: {name}" for name, count in Counter(names).items() if count > 1]
            lists[split] = list(dict.fromkeys(names))
    found.error("split lists are missing", missing, "Write one clip name per line, or use the official lists.")
    found.error("split lists cannot be used", bad, "Write one clip name per line, as UTF-8.")
    found.warning("clips are listed twice", twice, "Remove the repeated lines.")
    found.facts["listed"] = {split: len(names) for split, names in lists.items()}
    return lists


def check_overlaps(found: Examination, lists: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Note clips, mirror images and windows in several splits; return the first split that lists each clip."""
    splits: dict[str, list[str]] = defaultdict(list)
    for split, names in lists.items():
        for name in names:
            splits[name].append(split)
    several = [f"{name} ({', '.join(of)})" for name, of in splits.items() if len(of) > 1]
    found.error("clips are in several splits: test clips were trained on", several, "Keep each clip in one list.")
    split_of = {name: of[0] for name, of in splits.items()}
    mirrored = [
        f"{name} ({split}) and {name[1:]} ({split_of[name[1:]]})"
        for name, split in split_of.items()
        if name.startswith("M") and split_of.get(name[1:], split) != split
    ]
    remedy = "Put both into one split: they are one recording."
    found.warning("a clip and its mirror image are in different splits", mirrored, remedy)
    windows: dict[str, dict[str, str]] = defaultdict(dict)
    for name, split in split_of.items():
        if match := WINDOW.fullmatch(name):
            windows[match[1]].setdefault(split, name)
    apart = [", ".join(f"{n} ({s})" for s, n in of.items()) for of in windows.values() if len(of) > 1]
    remedy = "Put all windows of a recording into one split."
    found.warning("windows of one recording are in different splits", apart, remedy)
    return split_of


def check_derived(found: Examination, folder: Path, lists: Mapping[str, Collection[str]]) -> None:
    """Note a train_val.txt or all.txt that is not the union of its parts."""
    if len(lists) < len(SPLITS):
        return
    different = []
    for name, parts in DERIVED.items():
        try:
            listed = set(read_names(folder / f"{name}.txt"))
        except FileNotFoundError:
            continue
        except (DataError, OSError):
            different.append(f"{name}.txt (cannot be read)")
            continue
        expected = {clip for part in parts for clip in lists[part]}
        # The official lists contain the clips that are NaN.
        if listed - OFFICIAL_NAN_CLIPS != expected - OFFICIAL_NAN_CLIPS:
            count = len(listed ^ expected)
            different.append(f"{name}.txt (differs in {count} name{'s' * (count != 1)} from {' + '.join(parts)})")
    found.warning("lists that are not the union of their parts", different, "Write them again, or delete them.")


def check_pairs(
    found: Examination,
    lists: Mapping[str, Collection[str]],
    motions: Collection[str],
    captions: Mapping[str, list[Caption]],
    *,
    lost: Level = "error",
) -> None:
    """Note listed clips without motion or captions, and motions and captions without each other.

    lost: level of a missing motion. KIT-ML's release lacks some motions that its lists name, and training skips them.
    """
    listed = {name: split for split, names in lists.items() for name in names if name not in OFFICIAL_NAN_CLIPS}
    still = [f"{name} ({split})" for name, split in listed.items() if name not in motions]
    found.add(lost, f"listed clips have no motion in {VECTORS}", still, RESTORE)
    mute = [f"{name} ({split})" for name, split in listed.items() if name in motions and name not in captions]
    found.error(f"listed clips have no captions in {TEXTS}", mute, RESTORE)
    used = listed.keys() | OFFICIAL_NAN_CLIPS
    stray = [f"{name}.txt" for name in captions if name not in motions and name not in used]
    found.add(lost, "captions without a motion", stray, f"Restore the motions in {VECTORS}, or delete the captions.")
    unlisted = [name for name in motions if name not in used]
    bare = [f"{name}.npy" for name in unlisted if name not in captions]
    found.warning("motions in no list and without captions", bare, "Add captions and list them, or delete them.")
    captioned = [f"{name}.npy" for name in unlisted if name in captions]
    found.note("captioned motions in no list", captioned, "List them to use them.")


def official_names(lists: Mapping[str, Collection[str]]) -> bool:
    """Whether the lists are HumanML3D's, whole or in part: two of three contain the first official names."""
    return sum(OFFICIAL_NAMES[split] <= set(lists.get(split, ())) for split in SPLITS) >= 2


def check_counts(found: Examination, lists: Mapping[str, Collection[str]], width: int | None, official: bool) -> None:
    """Compare the number of names with the official lists'; those of KIT-ML are not known for certain."""
    if width != HUMANML3D.features:
        return
    counts = {split: len(names) for split, names in lists.items()}
    expected = {split: (counts.get(split, 0), count) for split, count in OFFICIAL_COUNTS.items()}
    different = [f"{split} {count:,} of {full:,}" for split, (count, full) in expected.items() if count != full]
    if official:
        remedy = "Use the official lists, or report which clips were used."
        found.warning("the lists are not HumanML3D's: results do not compare with the literature", different, remedy)
    elif different:
        sizes = ", ".join(f"{split} {count:,}" for split, count in counts.items()) or "no lists"
        found.note("a data set other than HumanML3D", sizes, "None needed: report the ground truth beside results.")

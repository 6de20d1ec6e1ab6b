"""The split lists: what they name, whether it is there, and whether what is tested on was trained on."""

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
# Names that open HumanML3D's lists. Numbers of six digits alone would make anybody's data set official.
OFFICIAL_NAMES = {
    "train": {"000001", "000002", "000003"},
    "val": {"012698", "012808", "008646"},
    "test": {"004822", "014457", "009613"},
}
DERIVED = {"train_val": ("train", "val"), "all": SPLITS}
WINDOW = re.compile(r"(.+)_w\d+")  # NAME_w0, NAME_w1: cut from one recording


def read_splits(found: Examination, folder: Path) -> dict[str, list[str]]:
    """The names of each list, each once; notes lists that are missing, empty, or name a clip twice."""
    lists: dict[str, list[str]] = {}
    missing, bad, twice = [], [], []
    for split in SPLITS:
        path = folder / f"{split}.txt"
        try:
            names = read_names(path)
        except FileNotFoundError:
            missing.append(path.name)
            continue
        except DataError as error:
            bad.append(str(error).removeprefix(f"{folder}/"))
            continue
        except OSError as error:
            bad.append(f"{path.name}: {error.strerror}")
            continue
        twice += [f"{path.name}: {name}" for name, count in Counter(names).items() if count > 1]
        lists[split] = list(dict.fromkeys(names))
    found.add("error", "split lists are missing", missing, "Write one clip name a line, or take the official lists.")
    found.add("error", "split lists cannot be used", bad, "Write one clip name a line, as UTF-8.")
    found.add("warning", "clips are listed twice", twice, "Remove the repeated lines.")
    found.facts["listed"] = {split: len(names) for split, names in lists.items()}
    return lists


def check_overlaps(found: Examination, lists: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Notes clips of several splits and what leaks between them; returns each clip's split, the first that lists it."""
    splits: dict[str, list[str]] = defaultdict(list)
    for split, names in lists.items():
        for name in names:
            splits[name].append(split)
    found.add(
        "error",
        "clips are in several splits: what is tested on was trained on",
        [f"{name} ({', '.join(of)})" for name, of in splits.items() if len(of) > 1],
        "Leave each clip in one list.",
    )
    split_of = {name: of[0] for name, of in splits.items()}
    found.add(
        "warning",
        "a clip and its mirror image are in different splits",
        [
            f"{name} ({split}) and {name[1:]} ({split_of[name[1:]]})"
            for name, split in split_of.items()
            if name.startswith("M") and split_of.get(name[1:], split) != split
        ],
        "Put both into the same split: they are one recording.",
    )
    windows: dict[str, dict[str, str]] = defaultdict(dict)
    for name, split in split_of.items():
        if match := WINDOW.fullmatch(name):
            windows[match[1]].setdefault(split, name)
    found.add(
        "warning",
        "windows of one recording are in different splits",
        [", ".join(f"{n} ({s})" for s, n in of.items()) for of in windows.values() if len(of) > 1],
        "Put all windows of a recording into the same split: they show the same take.",
    )
    return split_of


def check_derived(found: Examination, folder: Path, lists: Mapping[str, Collection[str]]) -> None:
    """train_val.txt and all.txt, where they are there, are unions of the three lists."""
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
        # The official lists name clips that were left out later.
        if listed - OFFICIAL_NAN_CLIPS != expected - OFFICIAL_NAN_CLIPS:
            count = len(listed ^ expected)
            different.append(f"{name}.txt (differs in {count} name{'s' * (count != 1)} from {' + '.join(parts)})")
    found.add("warning", "lists that are not the union of their parts", different, "Write them again, or delete them.")


def check_pairs(
    found: Examination,
    lists: Mapping[str, Collection[str]],
    motions: Collection[str],
    captions: Mapping[str, list[Caption]],
    *,
    lost: Level = "error",
) -> None:
    """Every listed clip has a motion and captions, and every caption file a motion.

    lost: how bad a missing motion is. KIT-ML's release lacks some that its lists name, and training skips them.
    """
    listed = {name: split for split, names in lists.items() for name in names if name not in OFFICIAL_NAN_CLIPS}
    found.add(
        lost,
        f"listed clips have no motion in {VECTORS}",
        [f"{name} ({split})" for name, split in listed.items() if name not in motions],
        "Restore the files, or take the names out of the lists.",
    )
    found.add(
        "error",
        f"listed clips have no captions in {TEXTS}",
        [f"{name} ({split})" for name, split in listed.items() if name in motions and name not in captions],
        "Restore the files, or take the names out of the lists.",
    )
    found.add(
        lost,
        "captions without a motion",
        [
            f"{name}.txt"
            for name in captions
            if name not in motions and name not in listed and name not in OFFICIAL_NAN_CLIPS
        ],
        f"Restore the motions in {VECTORS}, or delete the captions.",
    )
    unlisted = [name for name in motions if name not in listed and name not in OFFICIAL_NAN_CLIPS]
    found.add(
        "warning",
        "motions that no list names, without captions either",
        [f"{name}.npy" for name in unlisted if name not in captions],
        "Add captions and list them, or delete them.",
    )
    found.add(
        "note",
        "captioned motions that no list names",
        [f"{name}.npy" for name in unlisted if name in captions],
        "List them if they are to be used.",
    )


def official_names(lists: Mapping[str, Collection[str]]) -> bool:
    """Whether the lists are HumanML3D's, whole or in part: two of three name what opens the official ones."""
    return sum(OFFICIAL_NAMES[split] <= set(lists.get(split, ())) for split in SPLITS) >= 2


def check_counts(found: Examination, lists: Mapping[str, Collection[str]], width: int | None, official: bool) -> None:
    """The number of names against the official lists'."""
    counts = {split: len(names) for split, names in lists.items()}
    if width != HUMANML3D.features:
        return  # how long KIT-ML's lists are is not known for certain
    different = [
        f"{split} {counts.get(split, 0):,} of {count:,}"
        for split, count in OFFICIAL_COUNTS.items()
        if counts.get(split, 0) != count
    ]
    if official:
        found.add(
            "warning",
            "the lists are not HumanML3D's: figures on them do not compare with the literature",
            different,
            "Take the official lists, or say which clips were used.",
        )
    elif different:
        found.add(
            "note",
            "a data set of its own, not HumanML3D",
            ", ".join(f"{split} {count:,}" for split, count in counts.items()) or "no lists",
            "Nothing: report your figures beside your own ground truth.",
        )

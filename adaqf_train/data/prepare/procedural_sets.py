"""Procedural sets of any size for evaluation, beside a procedural data set and without a clip of it.

test        clips without held-out combinations
reference   real motions that FID compares with, likewise
held_out    held-out combinations alone
val         four fifths without and one fifth with held-out combinations

A clip depends on (seed, index) alone, and each set has a range of indices of its own beyond those of any data set. A
larger set holds the clips of a smaller one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from adaclip.files import atomic_file, atomic_folder, read_json, write_json
from adaqf_train.config import digest
from adaqf_train.data import cache
from adaqf_train.data.layout import ORIGIN, PARAMETERS, TEXTS, VECTORS, Caption, caption_line
from adaqf_train.data.prepare.joints import resample
from adaqf_train.errors import DataError
from adaqf_train.motion import features
from adaqf_train.motion.mapping import to_kit
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from adaqf_train.procedural import dataset as procedural

FIRST, RANGE = 1_000_000_000, 100_000_000  # index of the first set, and of each further one after it
VAL_HELD_OUT = 5  # every so-manieth clip of val is a held-out combination
VERSION = 1


@dataclass(frozen=True)
class SetSizes:
    """Clips of each set."""

    test: int
    reference: int
    held_out: int
    val: int


def procedural_sets(folder: Path, sizes: SetSizes) -> Path:
    """Make the sets of a procedural data set unless they are there; return their folder, in HumanML3D's layout.

    Each set is a split list of that folder, whose statistics are those of the data set. It lies with the data set's
    cache. DataError if the data set is not procedural, or the folder cannot be written.
    """
    made = origin_of(folder)
    key = {"version": VERSION, "origin": made, "sizes": vars(sizes), "statistics": _statistics_of(folder)}
    place = cache.place_of(folder) / f"procedural-{digest(key)}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / ".procedural.lock"):
            if not place.is_dir():
                with atomic_folder(place, resume="part") as staging:
                    _write(staging, folder, sizes, made)
    except OSError as error:
        raise DataError(
            f"{place}: the procedural test set cannot be written ({error.strerror}). Set {cache.PLACE} to a folder on "
            "a disk with free space."
        ) from error
    return place


def indices(sizes: SetSizes, seed: int) -> dict[str, list[int]]:
    """The indices of the clips of each set, in order."""
    found = {}
    for number, (name, count) in enumerate(vars(sizes).items()):
        candidates = iter(range(FIRST + number * RANGE, FIRST + (number + 1) * RANGE))

        def take(wanted: bool, candidates: Iterator[int] = candidates) -> int:
            return next(index for index in candidates if procedural.makes_held_out(index, seed) == wanted)

        def held_out(position: int, name: str = name) -> bool:
            return name == "held_out" or (name == "val" and position % VAL_HELD_OUT == VAL_HELD_OUT - 1)

        found[name] = [take(held_out(position)) for position in range(count)]
    return found


def origin_of(folder: Path) -> Mapping[str, object]:
    """How a procedural data set was made: clips, seed, and another skeleton; DataError if it is not procedural."""
    if (made := _made(folder)) is None:
        raise DataError(
            f"{folder}: not procedural motions, so no further ones can be made for evaluation. Set "
            "evaluation.procedural_test to none, or make a procedural data set: adaqf prepare synthetic."
        )
    return made


def is_procedural(folder: Path) -> bool:
    """Whether a data set consists of procedural motions alone, so that further ones can be made."""
    return _made(folder) is not None


def _made(folder: Path) -> Mapping[str, object] | None:
    path = folder / ORIGIN
    return read_json(path).get("synthetic") if path.is_file() else None


def _statistics_of(folder: Path) -> list[str]:
    return [np.load(folder / name, allow_pickle=False).tobytes().hex() for name in ("Mean.npy", "Std.npy")]


def _write(staging: Path, folder: Path, sizes: SetSizes, made: Mapping[str, object]) -> None:
    for part in (VECTORS, TEXTS, PARAMETERS):
        (staging / part).mkdir(exist_ok=True)
    for name in ("Mean.npy", "Std.npy"):
        shutil.copyfile(folder / name, staging / name)
    with tqdm(total=sum(vars(sizes).values()), desc="Generating motions to evaluate on", unit="clip") as bar:
        for name, chosen in indices(sizes, made["seed"]).items():
            clips = []
            for index in chosen:
                clips.append(_write_clip(staging, index, made))
                bar.update()
            (staging / f"{name}.txt").write_text("".join(f"{clip}\n" for clip in clips), encoding="utf-8")
    write_json(staging / ORIGIN, {"procedural_sets": vars(sizes), "of": dict(made)})


def _write_clip(staging: Path, index: int, made: Mapping[str, object]) -> str:
    """Write a clip unless an interrupted attempt has; the features come last."""
    name = str(index)
    path = staging / VECTORS / f"{name}.npy"
    if path.is_file():
        return name
    clip = procedural.make(index, made["seed"])
    joints = clip.joints
    if made.get("skeleton") == KIT.name:
        joints = to_kit(resample(joints, HUMANML3D.fps, KIT.fps))
    else:
        write_json(staging / PARAMETERS / f"{name}.json", {"actions": list(clip.actions)})
    lines = "".join(f"{caption_line(Caption(text))}\n" for text in clip.captions)
    (staging / TEXTS / f"{name}.txt").write_text(lines, encoding="utf-8")
    vectors = features.encode(np.asarray(joints, dtype=np.float64)).astype(np.float32)
    with atomic_file(path) as whole, whole.open("wb") as file:
        np.save(file, vectors)
    return name

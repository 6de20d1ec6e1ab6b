"""Motions that other programs wrote, read so that they can be scored by the same protocol.

FOLDER/NAME.npy      features (T, 263 | 251), de-normalised, or joints (T, 22 | 21, 3), Y up, at the data set's rate
FOLDER/NAME.txt      its prompt, on the first line; or
FOLDER/captions.json {NAME: prompt}; or NAME is a clip of the split, whose first caption is taken
results.npy          as MDM's sampling writes it: joints, texts and lengths in one file
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaclip.files import read_json
from adaqf_train.config import MIN_SAMPLES
from adaqf_train.data.clips import load_array
from adaqf_train.data.dataset import Item, MotionDataset
from adaqf_train.errors import DataError
from adaqf_train.evaluation.scores import Asked
from adaqf_train.motion.features import encode

CAPTIONS, RESULTS = "captions.json", "results.npy"
# All that a pickled array of arrays, numbers and strings asks for, under numpy's names before and after version 2.
_ARRAYS = {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")} | {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


@dataclass(frozen=True)
class Motions:
    """Prompts and what was made of them."""

    captions: list[str]
    motions: list[np.ndarray]  # de-normalised features (T_i, D), T_i a multiple of the data set's unit
    parameters: list[list[dict] | None]  # of the split's procedural clip that a prompt is a caption of

    @property
    def asked(self) -> Asked:
        return Asked(self.captions, self.parameters)


def read_motions(path: Path, dataset: MotionDataset) -> Motions:
    """Reads a folder or MDM's results file. DataError names what cannot be scored, and why.

    Joints go through the whole official pipeline (`features.encode`): standard skeleton, floor, facing.
    """
    if (path / RESULTS).is_file():  # the folder that MDM's sampling writes
        path = path / RESULTS
    pairs = list(_results(path) if path.suffix == ".npy" and path.is_file() else _folder(path, dataset))
    if len(pairs) < MIN_SAMPLES:
        raise DataError(f"{path}: {len(pairs)} motions; evaluation needs at least {MIN_SAMPLES}. Add some.")
    unit, parameters_of = dataset.config.unit_frames, _parameters(dataset)
    captions, motions, parameters = [], [], []
    for where, caption, array in tqdm(pairs, desc="Reading motions", unit="clip"):
        vectors = _features(where, array, dataset)
        frames = len(vectors) // unit * unit
        if not frames:
            raise DataError(
                f"{where}: {len(vectors)} frames of features, fewer than the {unit} of one unit. Remove it."
            )
        captions.append(caption)
        motions.append(vectors[:frames])
        parameters.append(parameters_of(where, caption))
    return Motions(captions, motions, parameters)


def _parameters(dataset: MotionDataset) -> Callable[[Path | str, str], list[dict] | None]:
    """What a procedural clip shows, by a motion's name and prompt, so that attributes are judged as in any report.

    The clip is the one of that name if the prompt is a caption of it, else the only one with such a caption.
    """
    by_key = {item.key: item for item in dataset.items}
    owners: dict[str, list[Item]] = {}
    for item in dataset.items:
        for caption in dict.fromkeys(item.captions):
            owners.setdefault(caption, []).append(item)

    def of(where: Path | str, caption: str) -> list[dict] | None:
        found = owners.get(caption, [])
        named = by_key.get(where.stem) if isinstance(where, Path) else None
        if named in found:
            return dataset.parameters(named)
        return dataset.parameters(found[0]) if len(found) == 1 else None

    return of


def _folder(folder: Path, dataset: MotionDataset):
    """(where, caption, array) of every file."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give a folder of NAME.npy motions, or MDM's results.npy.")
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise DataError(f"{folder}: no .npy files. Write one NAME.npy a motion: features, or joints.")
    table = read_json(folder / CAPTIONS) if (folder / CAPTIONS).is_file() else {}
    known: dict[str, str] = {}
    for item in dataset.items:
        known.setdefault(item.key, item.captions[0])
    for path in files:
        beside = path.with_suffix(".txt")
        if beside.is_file():
            try:
                lines = beside.read_text(encoding="utf-8").splitlines() or [""]
            except UnicodeDecodeError as error:
                raise DataError(f"{beside}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
            caption = lines[0].partition("#")[0].strip()
        else:
            caption = table.get(path.stem) or known.get(path.stem, "")
        if not isinstance(caption, str) or not caption:
            raise DataError(
                f"{path}: no prompt for it. Add {beside.name}, or an entry in {CAPTIONS}, or name it like a clip of "
                f"the {dataset.split} split."
            )
        yield path, caption, load_array(path)


def _results(path: Path):
    """(where, caption, joints) of every motion in MDM's file: {"motion": (N, J, 3, T), "text": …, "lengths": …}."""
    content = _read_pickled_array(path)
    missing = [key for key in ("motion", "text", "lengths") if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing. Give the results.npy that MDM's sampling writes.")
    motions, lengths = np.asarray(content["motion"]), np.asarray(content["lengths"]).ravel()
    texts = list(content["text"])
    numbers = motions.dtype.kind == "f" and lengths.dtype.kind in "iu"
    if not numbers or motions.ndim != 4 or motions.shape[2] != 3 or not len(motions) == len(texts) == len(lengths):
        raise DataError(
            f"{path}: motions {motions.shape}, {len(texts)} texts and {len(lengths)} lengths do not fit together; "
            "expected joints (N, 22 or 21, 3, frames). Sample them again."
        )
    for number, (motion, text, length) in enumerate(zip(motions, texts, lengths.tolist(), strict=True)):
        yield f"{path}, motion {number}", str(text), motion[..., : int(length)].transpose(2, 0, 1).astype(np.float64)


def _features(where: Path | str, array: np.ndarray, dataset: MotionDataset) -> np.ndarray:
    """Features (T, D) of features or joints, checked."""
    try:
        vectors = encode(array.astype(np.float64)) if array.ndim == 3 else array
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if vectors.ndim != 2 or vectors.shape[1] != dataset.features:
        raise DataError(
            f"{where}: shape {array.shape}, expected features (frames, {dataset.features}) or joints "
            f"(frames, {len(dataset.skeleton)}, 3), as the data set has them."
        )
    if not np.isfinite(vectors).all():
        raise DataError(
            f"{where}: NaN or infinite at frame {int(np.argwhere(~np.isfinite(vectors))[0][0])}. Remove it."
        )
    return vectors.astype(np.float32)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, containers, strings and numbers; anything that would call other code is refused."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return super().find_class(module, name)


def _read_pickled_array(path: Path) -> object:
    """The one object of an object array, which numpy.load would hand to an unpickler without limits."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            _, _, dtype = read_header[version](file)
            if not dtype.hasobject:
                raise ValueError(f"it holds {dtype} numbers")
            return _ArrayUnpickler(file).load().item()
    except (ValueError, KeyError, EOFError, AttributeError, IndexError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: not a results file of MDM ({error}). Sample it again.") from error

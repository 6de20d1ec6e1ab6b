"""Motions of other programs, read so that the same protocol can score them.

FOLDER/NAME.npy      features (T, 263 | 251), de-normalised, or joints (T, 22 | 21, 3), Y up, at the data set's rate
FOLDER/NAME.txt      its prompt, on the first line; or
FOLDER/captions.json {NAME: prompt}; or NAME is a clip of the split, and the prompt is its first caption
results.npy          as MDM's sampling writes it: joints, texts and lengths in one file
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaclip.files import read_json
from adaqf_train.config import MIN_SAMPLES
from adaqf_train.data.clips import load_array
from adaqf_train.data.dataset import Item, MotionDataset
from adaqf_train.data.mdm_results import read_results
from adaqf_train.errors import DataError
from adaqf_train.evaluation.scores import CaptionedMotions
from adaqf_train.evaluation.stored import prompt_beside
from adaqf_train.motion.features import encode

CAPTIONS, RESULTS = "captions.json", "results.npy"


def read_motions(path: Path, dataset: MotionDataset) -> CaptionedMotions:
    """Read a folder of motions, or MDM's results file, for `protocol.evaluate`.

    Joints pass the whole official pipeline (`features.encode`): standard skeleton, floor, facing. Motions are cut to a
    multiple of the data set's unit of frames. The split to compare with, `dataset`, gives prompts, and the parameters
    of procedural clips. DataError names a motion that cannot be scored.
    """
    if (path / RESULTS).is_file():  # the folder that MDM's sampling writes
        path = path / RESULTS
    is_file = path.suffix == ".npy" and path.is_file()
    found = list(_results(path) if is_file else read_folder(path, dataset))
    if len(found) < MIN_SAMPLES:
        raise DataError(f"{path}: {len(found)} motions; evaluation needs at least {MIN_SAMPLES}. Add some.")
    unit, parameters_of = dataset.config.unit_frames, _parameters(dataset)
    captions, motions, parameters = [], [], []
    for where, caption, array in tqdm(found, desc="Reading motions", unit="clip"):
        vectors = to_features(where, array).astype(np.float32)
        if vectors.shape[1] != dataset.features:
            raise DataError(
                f"{where}: shape {array.shape}, expected features (frames, {dataset.features}) or joints "
                f"(frames, {len(dataset.skeleton)}, 3), as in the data set."
            )
        frames = len(vectors) // unit * unit
        if not frames:
            raise DataError(f"{where}: {len(vectors)} frames of features, fewer than one unit of {unit}. Remove it.")
        captions.append(caption)
        motions.append(vectors[:frames])
        parameters.append(parameters_of(where, caption))
    return CaptionedMotions(captions, motions, parameters)


def read_folder(folder: Path, dataset: MotionDataset | None) -> Iterator[tuple[Path, str, np.ndarray]]:
    """Yield (file, prompt, array) of each NAME.npy in a folder; DataError without motions, or for one without a prompt.

    The data set's clips give the prompts that neither NAME.txt nor captions.json has.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give a folder of NAME.npy motions, or MDM's results.npy.")
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise DataError(f"{folder}: no .npy files. Write one NAME.npy per motion: features, or joints.")
    table = read_json(folder / CAPTIONS) if (folder / CAPTIONS).is_file() else {}
    items = reversed(dataset.items) if dataset else ()
    known = {item.key: item.captions[0] for item in items}  # of equal keys the first item counts
    for path in paths:
        text = prompt_beside(path) or table.get(path.stem) or known.get(path.stem, "")
        if not isinstance(text, str) or not text:
            named = f"name it like a clip of the {dataset.split} split" if dataset else "give the data set with --data"
            raise DataError(f"{path}: no prompt for it. Add {path.stem}.txt, or an entry in {CAPTIONS}, or {named}.")
        yield path, text, load_array(path)


def to_features(where: Path | str, array: np.ndarray) -> np.ndarray:
    """Convert features or joints to features (T, D); DataError names `where` if they are neither, or not finite."""
    try:
        vectors = encode(array.astype(np.float64)) if array.ndim == 3 else array
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if vectors.ndim != 2 or not len(vectors):
        raise DataError(f"{where}: shape {array.shape}, expected features (frames, D) or joints (frames, J, 3).")
    if not np.isfinite(vectors).all():
        raise DataError(f"{where}: NaN or infinite at frame {np.argwhere(~np.isfinite(vectors))[0][0]}. Remove it.")
    return vectors


def _parameters(dataset: MotionDataset) -> Callable[[Path | str, str], list[dict] | None]:
    """A function from a motion's name and prompt to the parameters of the procedural clip that has this prompt.

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


def _results(path: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """(where, caption, joints) of each motion in MDM's file."""
    for where, text, joints in read_results(path):
        yield where, text, joints.astype(np.float64)

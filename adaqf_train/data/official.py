"""Where HumanML3D, KIT-ML and the codebases that use them keep the data and the evaluators' statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaqf_train.data.clips import load_array
from adaqf_train.data.layout import SPLITS, VECTORS
from adaqf_train.errors import DataError

# The official evaluators (T2M) were trained on features scaled by statistics of their own; codebases name the two data
# sets t2m and kit, and MoMask keeps the statistics with the evaluators' checkpoints under these names.
PREFIXES = {263: "t2m", 251: "kit"}
CHECKPOINTS = ("Comp_v6_KLD005", "Comp_v6_KLD01")


def locate(folder: Path) -> Path:
    """The data folder: `folder` itself, or the one data folder in it or in its dataset/ (MDM, MoMask, HumanML3D).

    DataError when there is none, or several, whose names it gives.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give a HumanML3D-layout folder, or make one: adaqf prepare.")
    if (folder / VECTORS).is_dir():
        return folder
    inside = [path.parent for at in (folder, folder / "dataset") for path in sorted(at.glob(f"*/{VECTORS}/"))]
    found = {path.resolve(): path for path in inside}  # dataset/ may hold links to folders beside it
    if len(found) == 1:
        return inside[0]
    if found:
        raise DataError(f"{folder}: holds {len(found)} data sets. Give one of {', '.join(map(str, found.values()))}.")
    if any((folder / name).is_file() for name in ("Mean.npy", *(f"{split}.txt" for split in SPLITS))):
        return folder  # a data set that lost its motions: reading it says what is missing
    raise DataError(
        f"{folder}: no data set ({VECTORS}/ is neither here nor in a folder of it or of dataset/). Give a "
        "HumanML3D-layout folder, or make one: adaqf prepare."
    )


def evaluator_statistics(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation (D,) that the official evaluators expect; None when they are not beside the data.

    They are not the data's own Mean.npy and Std.npy: deviations of root and contacts are 25 times smaller. Looked for
    as t2m_mean.npy (KIT-ML: kit_mean.npy) in the data folder and its parent (MDM's dataset/), then as meta/mean.npy of
    the evaluator in checkpoints/ of the codebase (MoMask, T2M).
    """
    folder = folder.resolve()
    features = len(np.atleast_1d(load_array(folder / "Mean.npy")))
    if features not in PREFIXES:
        raise DataError(f"{folder / 'Mean.npy'}: {features} features, expected {' or '.join(map(str, PREFIXES))}.")
    prefix = PREFIXES[features]
    pairs = [(at / f"{prefix}_mean.npy", at / f"{prefix}_std.npy") for at in (folder, folder.parent)]
    for root in (folder.parent, folder.parent.parent):
        metas = [root / "checkpoints" / prefix / name / "meta" for name in CHECKPOINTS]
        pairs += [(meta / "mean.npy", meta / "std.npy") for meta in metas]
    for mean, std in pairs:
        if mean.is_file() and std.is_file():
            return _statistics(mean, features), _statistics(std, features, positive=True)
    return None


def _statistics(path: Path, features: int, *, positive: bool = False) -> np.ndarray:
    array = load_array(path)
    if array.shape != (features,):
        raise DataError(f"{path}: shape {array.shape}, expected ({features},) as in Mean.npy. Download it again.")
    if not np.isfinite(array).all() or (positive and (array <= 0).any()):
        raise DataError(f"{path}: holds values that cannot normalise. Download it again.")
    return array.astype(np.float32)

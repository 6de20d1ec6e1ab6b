"""Locate the data and the evaluators' statistics of HumanML3D, KIT-ML and the codebases that use them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from adaqf_train.data.clips import load_array, load_statistics
from adaqf_train.data.layout import SPLITS, VECTORS
from adaqf_train.errors import DataError

# The official evaluators (T2M) were trained with statistics of their own. Codebases name the two data sets t2m and kit;
# MoMask keeps the statistics beside the evaluators' checkpoints of these names.
PREFIXES = {263: "t2m", 251: "kit"}
CHECKPOINTS = ("Comp_v6_KLD005", "Comp_v6_KLD01")


def locate(folder: Path) -> Path:
    """Find the data folder: `folder`, or the only data folder in it or in its dataset/ (MDM, MoMask, HumanML3D)."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give a HumanML3D-layout folder, or make one: adaqf prepare.")
    if (folder / VECTORS).is_dir():
        return folder
    inside = [path.parent for at in (folder, folder / "dataset") for path in sorted(at.glob(f"*/{VECTORS}/"))]
    found = {path.resolve(): path for path in inside}  # dataset/ may contain links to folders beside it
    if len(found) == 1:
        return inside[0]
    if found:
        raise DataError(
            f"{folder}: contains {len(found)} data sets. Give one of {', '.join(map(str, found.values()))}."
        )
    if any((folder / name).is_file() for name in ("Mean.npy", *(f"{split}.txt" for split in SPLITS))):
        return folder  # a data set without its motions: reading it raises the error
    raise DataError(
        f"{folder}: no data set ({VECTORS}/ is neither here nor in a folder of it or of dataset/). Give a "
        "HumanML3D-layout folder, or make one: adaqf prepare."
    )


def evaluator_statistics(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Find the official evaluators' mean and deviation (D,), float32, for a data folder; None if they do not exist.

    They differ from the data's Mean.npy and Std.npy: deviations of root and contacts are 25 times smaller. Candidates
    are t2m_mean.npy (KIT-ML: kit_mean.npy) in the data folder and its parent (MDM's dataset/), then meta/mean.npy of
    the evaluator in checkpoints/ of the codebase (MoMask, T2M).
    """
    folder = folder.resolve()
    features = len(np.atleast_1d(load_array(folder / "Mean.npy")))
    if features not in PREFIXES:
        raise DataError(f"{folder / 'Mean.npy'}: {features} features, expected {' or '.join(map(str, PREFIXES))}.")
    prefix = PREFIXES[features]
    pairs = [(at / f"{prefix}_mean.npy", at / f"{prefix}_std.npy") for at in (folder, folder.parent)]
    for root, name in itertools.product((folder.parent, folder.parent.parent), CHECKPOINTS):
        meta = root / "checkpoints" / prefix / name / "meta"
        pairs.append((meta / "mean.npy", meta / "std.npy"))
    for mean, std in pairs:
        if mean.is_file() and std.is_file():
            return tuple(load_statistics(path, (features,)).astype(np.float32) for path in (mean, std))
    return None

"""Checks of Mean.npy and Std.npy: their origin, and whether they fit the clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaqf_train.data.clips import load_statistics
from adaqf_train.data.official import PREFIXES
from adaqf_train.doctor.findings import Examination
from adaqf_train.doctor.motions import Motions, Statistics
from adaqf_train.errors import DataError
from adaqf_train.motion.features import slices_of_width
from adaqf_train.motion.skeleton import HUMANML3D, KIT

MEAN, STD = "Mean.npy", "Std.npy"
OWN = f"Put the data set's own {MEAN} and {STD} here"
AT = {HUMANML3D.features: [2, 3, 5, 67, 259], KIT.features: [2, 3, 5, 100, 193]}  # features of a fingerprint


@dataclass(frozen=True)
class Fingerprint:
    """A few values that identify statistics."""

    name: str
    width: int
    mean: tuple[float, ...]  # of the features AT
    std: tuple[float, ...]
    evaluators: bool = True  # statistics of official evaluators, which divide root and contacts by another 25

    def matches(self, mean: np.ndarray, std: np.ndarray) -> bool:
        """Whether Mean and Std (D,) are these statistics."""
        if len(mean) != self.width:
            return False
        found = np.stack([mean, std])[:, AT[self.width]]
        return np.allclose(found, (self.mean, self.std), rtol=1e-3, atol=1e-6)


KNOWN = (
    Fingerprint(
        "HumanML3D's",
        HUMANML3D.features,
        mean=(0.00868254, 0.938551, 0.823303, 0.397804, 0.848058),
        std=(0.0169271, 0.153766, 0.122244, 0.299692, 0.355933),
        evaluators=False,
    ),
    Fingerprint(
        "the HumanML3D evaluators' (t2m_mean.npy, t2m_std.npy)",
        HUMANML3D.features,
        mean=(0.0086845, 0.917516, 0.836166, 0.39761, 0.848054),
        std=(0.000676928, 0.00612082, 0.122555, 0.300386, 0.0140949),
    ),
    Fingerprint(
        "the KIT-ML evaluators' (kit_mean.npy, kit_std.npy)",
        KIT.features,
        mean=(16.5778, 559.625, 635.953, 0.778883, 16.581),
        std=(1.17277, 4.58643, 93.6202, 0.342471, 29.1116),
    ),
)
ROOT = ("root_rot_velocity", "root_linear_velocity", "root_height", "contacts")  # groups the evaluators weigh 25-fold
BIAS = 25.0
ENOUGH = 1000  # training frames needed to judge statistics
FAR_MEAN = 0.5  # deviations, root mean square over a group
FAR_STD = 2.0  # ratio


def read_statistics(found: Examination, folder: Path) -> Statistics | None:
    """Mean and Std (D,), float64; None, with a finding, if they cannot normalise."""
    loaded, bad = [], []
    for name in (MEAN, STD):
        try:
            loaded.append(load_statistics(folder / name).astype(np.float64))
        except DataError as error:
            bad.append(str(error).removeprefix(f"{folder}/").rpartition(". ")[0])
    if not bad and len(loaded[0]) != len(loaded[1]):
        bad.append(f"{MEAN}: {len(loaded[0])} values, {STD}: {len(loaded[1])}")
    found.error("statistics that cannot normalise", bad, "Compute both again from the train split.")
    return None if bad else (loaded[0], loaded[1])


def check_statistics(found: Examination, motions: Motions, statistics: Statistics | None) -> None:
    """Note statistics of the evaluators, and statistics that do not fit the training clips."""
    if statistics is None:
        return
    mean, std = statistics
    files, again = [MEAN, STD], "Compute both again from the train split, or restore the data set's own."
    known = next((fingerprint for fingerprint in KNOWN if fingerprint.matches(mean, std)), None)
    found.facts["statistics"] = known.name if known else "of its own"
    if len(mean) != motions.width:
        found.error(f"statistics of {len(mean)} features, clips of {motions.width}", files, again)
    elif known and known.evaluators:
        what = f"{MEAN} and {STD} are {known.name}, which weigh root and contacts 25-fold: for embeddings only"
        found.error(what, files, f"{OWN}; keep the others under their names.")
    elif motions.training.count < ENOUGH:
        what = f"too few training frames ({motions.training.count:,}) to judge the statistics"
        found.note(what, files, "None needed if they are those of the whole data set.")
    else:
        _check_fit(found, motions, mean, std, again)


def _check_fit(found: Examination, motions: Motions, mean: np.ndarray, std: np.ndarray, again: str) -> None:
    own_mean, own_std = (array.astype(np.float64) for array in motions.training.result())
    ratios, far = {}, []
    for group, where in slices_of_width(motions.width).groups().items():
        ratios[group] = float(np.median(std[where] / own_std[where]))
        shift = float(np.sqrt(np.mean(np.square((mean[where] - own_mean[where]) / own_std[where]))))
        if shift > FAR_MEAN or not 1 / FAR_STD <= ratios[group] <= FAR_STD:
            far.append(f"{group} (mean off by {shift:.1f} deviations, deviation × {ratios[group]:.2g})")
    if all(0.5 < ratios[group] * BIAS < 2 for group in ROOT) and 0.5 < ratios["positions"] < 2:
        what = f"{STD} is 25 times smaller for root and contacts, as in the evaluators' statistics"
        found.error(what, STD, f"{OWN}: these weigh the root 25-fold.")
        return
    found.facts["statistics_fit_the_train_split"] = not far
    found.warning("statistics that do not fit the training clips", far, again)


def official(statistics: Statistics | None) -> bool:
    """Whether Mean and Std are HumanML3D's."""
    return statistics is not None and KNOWN[0].matches(*statistics)


def check_evaluators(found: Examination, folder: Path, width: int | None, claims_official: bool) -> None:
    """Note whether the statistics of the official evaluators exist."""
    if width not in PREFIXES:
        return
    files = [f"{PREFIXES[width]}_{part}.npy" for part in ("mean", "std")]
    places = (folder, folder.absolute().parent)  # MDM keeps them above the data set
    present = any(all((place / file).is_file() for file in files) for place in places)
    found.facts["evaluators_statistics"] = present
    if claims_official and not present:
        remedy = "They are needed for the literature's FID and R-precision only; MDM and MoMask provide them."
        found.note("the official evaluators' own statistics are not here", ", ".join(files), remedy)

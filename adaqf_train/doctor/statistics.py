"""Mean.npy and Std.npy: whose they are, and whether they fit the clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaqf_train.data.clips import load_array
from adaqf_train.doctor.findings import Examination
from adaqf_train.doctor.motions import WIDTHS, Motions
from adaqf_train.errors import DataError
from adaqf_train.motion.features import slices_of_width
from adaqf_train.motion.skeleton import HUMANML3D, KIT

MEAN, STD = "Mean.npy", "Std.npy"


@dataclass(frozen=True)
class Fingerprint:
    """A few values that tell statistics apart: features by index -> (mean, standard deviation)."""

    name: str
    width: int
    values: dict[int, tuple[float, float]]
    evaluators: bool  # the official evaluators' own, whose deviations are 25 times smaller for root and contacts

    def matches(self, mean: np.ndarray, std: np.ndarray) -> bool:
        """Whether Mean and Std (D,) are these."""
        if len(mean) != self.width:
            return False
        at = list(self.values)
        expected = np.array(list(self.values.values()))
        return bool(np.allclose(np.stack([mean[at], std[at]], axis=1), expected, rtol=1e-3, atol=1e-6))


KNOWN = (
    Fingerprint(
        "HumanML3D's",
        HUMANML3D.features,
        {
            2: (0.00868254, 0.0169271),
            3: (0.938551, 0.153766),
            5: (0.823303, 0.122244),
            67: (0.397804, 0.299692),
            259: (0.848058, 0.355933),
        },
        evaluators=False,
    ),
    Fingerprint(
        "the HumanML3D evaluators' (t2m_mean.npy, t2m_std.npy)",
        HUMANML3D.features,
        {
            2: (0.0086845, 0.000676928),
            3: (0.917516, 0.00612082),
            5: (0.836166, 0.122555),
            67: (0.39761, 0.300386),
            259: (0.848054, 0.0140949),
        },
        evaluators=True,
    ),
    Fingerprint(
        "the KIT-ML evaluators' (kit_mean.npy, kit_std.npy)",
        KIT.features,
        {
            2: (16.5778, 1.17277),
            3: (559.625, 4.58643),
            5: (635.953, 93.6202),
            100: (0.778883, 0.342471),
            193: (16.581, 29.1116),
        },
        evaluators=True,
    ),
)
ROOT = ("root_rot_velocity", "root_linear_velocity", "root_height", "contacts")  # groups the evaluators weigh 25-fold
BIAS = 25.0
ENOUGH = 1000  # training frames that statistics can be judged by
FAR_MEAN = 0.5  # deviations, root mean square over a group
FAR_STD = 2.0  # ratio


def read_statistics(found: Examination, folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and Std (D,) if they can normalise, float64; what keeps them from it is noted."""
    loaded, bad = [], []
    for name in (MEAN, STD):
        try:
            array = load_array(folder / name).astype(np.float64)
        except DataError as error:
            bad.append(str(error).removeprefix(f"{folder}/").rstrip("."))
            continue
        if array.ndim != 1 or len(array) not in WIDTHS:
            bad.append(f"{name}: shape {array.shape}, expected (263,) or (251,)")
        elif not np.isfinite(array).all():
            bad.append(f"{name}: NaN or infinite")
        elif name == STD and (array <= 0).any():
            bad.append(f"{name}: {int((array <= 0).sum())} values are not above zero")
        else:
            loaded.append(array)
    if len(loaded) == 2 and len(loaded[0]) != len(loaded[1]):
        bad.append(f"{MEAN}: {len(loaded[0])} values, {STD}: {len(loaded[1])}")
    found.add("error", "statistics that cannot normalise", bad, "Compute both again from the train split.")
    return None if bad else (loaded[0], loaded[1])


def check_statistics(found: Examination, motions: Motions, statistics: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Notes statistics that are the evaluators', or that do not fit the training clips."""
    if statistics is None:
        return
    mean, std = statistics
    known = next((fingerprint for fingerprint in KNOWN if fingerprint.matches(mean, std)), None)
    found.facts["statistics"] = known.name if known else "of its own"
    again = "Compute both again from the train split, or restore the data set's own."
    if len(mean) != motions.width:
        found.add(
            "error",
            f"statistics of {len(mean)} features, clips of {motions.width}",
            [MEAN, STD],
            again,
        )
        return
    if known and known.evaluators:
        found.add(
            "error",
            f"Mean.npy and Std.npy are {known.name}, which weigh root and contacts 25-fold: for embeddings only",
            [MEAN, STD],
            "Put the data set's own Mean.npy and Std.npy here; keep the others under their names.",
        )
        return
    if motions.training.count < ENOUGH:
        found.add(
            "note",
            f"too few training frames ({motions.training.count:,}) to judge the statistics by",
            [MEAN, STD],
            "Nothing, if they are of the whole data set.",
        )
        return
    own_mean, own_std = (array.astype(np.float64) for array in motions.training.result())
    ratios, far = {}, []
    for group, where in slices_of_width(motions.width).groups().items():
        ratios[group] = float(np.median(std[where] / own_std[where]))
        shift = float(np.sqrt(np.mean(np.square((mean[where] - own_mean[where]) / own_std[where]))))
        if shift > FAR_MEAN or not 1 / FAR_STD <= ratios[group] <= FAR_STD:
            far.append(f"{group} (mean off by {shift:.1f} deviations, deviation × {ratios[group]:.2g})")
    if all(0.5 < ratios[group] * BIAS < 2 for group in ROOT) and 0.5 < ratios["positions"] < 2:
        found.add(
            "error",
            "Std.npy is 25 times smaller for root and contacts, as the evaluators' statistics are",
            STD,
            "Put the data set's own Mean.npy and Std.npy here: these weigh the root 25-fold.",
        )
        return
    found.facts["statistics_fit_the_train_split"] = not far
    found.add("warning", "statistics that do not fit the training clips", far, again)


def official(statistics: tuple[np.ndarray, np.ndarray] | None) -> bool:
    """Whether Mean and Std are HumanML3D's."""
    return statistics is not None and KNOWN[0].matches(*statistics)


def check_evaluators(found: Examination, folder: Path, width: int | None, claims_official: bool) -> None:
    """Whether the official evaluators' own statistics are there."""
    if width not in WIDTHS:
        return
    name = "t2m" if width == HUMANML3D.features else "kit"
    present = [
        all((place / f"{name}_{part}.npy").is_file() for part in ("mean", "std"))
        for place in (folder, folder.absolute().parent)  # MDM keeps them above the data set
    ]
    found.facts["evaluators_statistics"] = any(present)
    if claims_official and not any(present):
        found.add(
            "note",
            "the official evaluators' own statistics are not here",
            f"{name}_mean.npy, {name}_std.npy",
            "Needed for the literature's FID and R-precision only: they come with MDM's and MoMask's evaluators.",
        )

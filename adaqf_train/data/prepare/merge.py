"""Several data sets into one folder: features as they are, statistics over all of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaclip.files import atomic_folder, write_json
from adaqf_train.data.clips import ClipFiles, load_array
from adaqf_train.data.layout import (
    JOINTS,
    ORIGIN,
    PARAMETERS,
    SPLITS,
    TEXTS,
    VECTORS,
    RunningStatistics,
    read_names,
    write_splits,
)
from adaqf_train.data.prepare.sources import check_output
from adaqf_train.errors import DataError


def prepare_merged(sources: Mapping[str, Path], folder: Path) -> dict[str, int]:
    """HumanML3D folders {label: folder} -> one, whose clips are LABEL_NAME in the split they had.

    Features are copied unchanged, so a clip is the same in both; Mean and Std are computed over the training clips of
    all. DataError for fewer than two sources, labels that cannot begin a file's name, folders of different skeletons,
    and anything unreadable in them. Returns the number of clips per split.
    """
    check_output(folder)
    if len(sources) < 2:
        raise DataError("A merged data set needs two sources or more. Give them as LABEL=FOLDER, each.")
    for label in sources:
        if not label.replace("-", "").isalnum():
            raise DataError(f"{label}: a label is the beginning of file names. Use letters, digits and hyphens.")
    widths = {label: len(load_array(source / "Mean.npy")) for label, source in sources.items()}
    if len(set(widths.values())) > 1:
        raise DataError(f"The sources are of different skeletons ({widths} features). Merge those of one.")
    statistics = RunningStatistics(next(iter(widths.values())))
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    with atomic_folder(folder) as staging:
        for part in (VECTORS, JOINTS, TEXTS, PARAMETERS):
            (staging / part).mkdir()
        for label, source in sources.items():
            files = ClipFiles(source)
            for split in SPLITS:
                for name in tqdm(read_names(source / f"{split}.txt"), desc=f"{label}, {split}", unit="clip"):
                    vectors = _copy(files, name, f"{label}_{name}", staging, widths[label])
                    names[split].append(f"{label}_{name}")
                    if split == "train":
                        statistics.add(vectors)
        mean, std = statistics.result()
        np.save(staging / "Mean.npy", mean)
        np.save(staging / "Std.npy", std)
        write_splits(staging, names)
        write_json(staging / ORIGIN, {"merged": {label: str(source.resolve()) for label, source in sources.items()}})
        for part in (JOINTS, PARAMETERS):  # of sources that have none
            if not any((staging / part).iterdir()):
                (staging / part).rmdir()
    return {split: len(names[split]) for split in SPLITS}


def _copy(files: ClipFiles, name: str, new: str, staging: Path, features: int) -> np.ndarray:
    vectors = files.read(name, features).vectors
    np.save(staging / VECTORS / f"{new}.npy", vectors)
    (staging / TEXTS / f"{new}.txt").write_bytes(files.text(name))
    for part, suffix in ((JOINTS, ".npy"), (PARAMETERS, ".json")):
        path = files.folder / part / f"{name}{suffix}"
        if path.is_file():
            shutil.copyfile(path, staging / part / f"{new}{suffix}")
    return vectors

"""Merge data sets into one folder, with unchanged features and joint statistics."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaclip.files import atomic_folder
from adaqf_train.data import layout
from adaqf_train.data.clips import ClipFiles, load_array
from adaqf_train.data.layout import JOINTS, PARAMETERS, SPLITS, TEXTS, VECTORS
from adaqf_train.data.prepare.recordings import check_output
from adaqf_train.errors import DataError


def prepare_merged(sources: Mapping[str, Path], folder: Path) -> dict[str, int]:
    """Merge HumanML3D folders by label: clips become LABEL_NAME and keep their split; return their number per split.

    Features are copied unchanged; Mean and Std are those of all training clips.
    """
    check_output(folder)
    if len(sources) < 2:
        raise DataError("A merged data set needs two or more sources. Give each as LABEL=FOLDER.")
    for label in sources:
        if not label.replace("-", "").isalnum():
            raise DataError(f"{label}: labels begin file names. Use letters, digits and hyphens.")
    widths = {label: len(load_array(source / "Mean.npy")) for label, source in sources.items()}
    if len(set(widths.values())) > 1:
        raise DataError(f"The sources have different skeletons ({widths} features). Merge sources of one skeleton.")
    statistics = layout.RunningStatistics(next(iter(widths.values())))
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    with atomic_folder(folder) as staging:
        for part in layout.PARTS:
            (staging / part).mkdir()
        for label, source in sources.items():
            files = ClipFiles(source)
            for split in SPLITS:
                for name in tqdm(layout.read_names(source / f"{split}.txt"), desc=f"{label}, {split}", unit="clip"):
                    new, vectors = f"{label}_{name}", files.read(name, widths[label]).vectors
                    np.save(staging / VECTORS / f"{new}.npy", vectors)
                    (staging / TEXTS / f"{new}.txt").write_bytes(files.text(name))
                    for part, suffix in ((JOINTS, ".npy"), (PARAMETERS, ".json")):
                        if (path := source / part / f"{name}{suffix}").is_file():
                            shutil.copyfile(path, staging / part / f"{new}{suffix}")
                    names[split].append(new)
                    if split == "train":
                        statistics.add(vectors)
        origin = {"merged": {label: str(source.resolve()) for label, source in sources.items()}}
        return layout.complete(staging, names, statistics, origin)

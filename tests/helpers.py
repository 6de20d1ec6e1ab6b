"""Helpers that several test files call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from adaqf_train.config import RunConfig, to_dict
from adaqf_train.motion.skeleton import KIT


def settings_of(config: RunConfig, **changes: object) -> list[str]:
    """A configuration as --set options; changes are written training__steps=5."""
    flat = {
        f"{group}.{name}": value
        for group, values in to_dict(config).items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    flat |= {name.replace("__", "."): value for name, value in changes.items()}
    return [part for name, value in flat.items() for part in ("--set", f"{name}={value}")]


def kit_body(frames: int, seed: int = 0) -> np.ndarray:
    """A body of KIT-ML's 21 joints that stands and sways: (frames, 21, 3) in its units, 640 a metre."""
    rest = np.zeros((21, 3))
    for joint, parent in enumerate(KIT.parents):
        if parent >= 0:
            rest[joint] = rest[parent] + 250 * np.array(KIT.rest_directions[joint], float)
    sway = np.random.default_rng(seed).uniform(0, 6, (1, 21, 3))
    return rest + 20 * np.sin(np.arange(frames)[:, None, None] / 4 + sway)


def write_clips(folder: Path, lengths: Mapping[str, int], features: int = 263) -> Path:
    """A data folder of random features: clip name -> frames, all of them in train, each with one caption."""
    rng = np.random.default_rng(0)
    for part in ("new_joint_vecs", "texts"):
        (folder / part).mkdir(parents=True)
    for name, frames in lengths.items():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", rng.standard_normal((frames, features), dtype=np.float32))
        (folder / "texts" / f"{name}.txt").write_text(f"{name} walks#walk/VERB#0.0#0.0\n", encoding="utf-8")
    np.save(folder / "Mean.npy", np.zeros(features, np.float32))
    np.save(folder / "Std.npy", np.ones(features, np.float32))
    (folder / "train.txt").write_text("".join(f"{name}\n" for name in lengths), encoding="utf-8")
    return folder

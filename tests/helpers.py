"""Helpers that several test files call."""

from __future__ import annotations

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

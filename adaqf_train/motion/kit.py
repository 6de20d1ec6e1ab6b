"""Convert HumanML3D's 22 joints to KIT-ML's 21.

The two skeletons measure different points of the back: MMM's root, belly, thorax and neck take the nearest joints of
HumanML3D. The middle of a foot lies between ankle and toe.
"""

from __future__ import annotations

import numpy as np

from adaqf_train.motion.skeleton import HUMANML3D, KIT

MIDFOOT = 0.5  # of the way from ankle to toe
_BACK = {"root": "pelvis", "bp": "spine1", "bt": "spine3", "bln": "neck", "bun": "head"}
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_SIDES = ("left", "right")
NEAREST = _BACK | {f"{side}_{joint}": f"{side}_{joint}" for side in _SIDES for joint in _LIMBS}
NEAREST |= {f"{side}_toe": f"{side}_foot" for side in _SIDES}


def to_kit(joints: np.ndarray) -> np.ndarray:
    """Convert joints (T, 22, 3) in metres to (T, 21, 3) in KIT-ML's unit, 640 per metre, at the same frame rate."""
    there = {name: joints[:, HUMANML3D.joints.index(nearest)] for name, nearest in NEAREST.items()}
    for side in _SIDES:
        ankle, toe = there[f"{side}_ankle"], there[f"{side}_toe"]
        there[f"{side}_midfoot"] = (1 - MIDFOOT) * ankle + MIDFOOT * toe
    return KIT.units_per_metre * np.stack([there[name] for name in KIT.joints], axis=1)

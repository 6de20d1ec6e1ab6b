"""AdaQF: trains the AdaCLIP adapter together with a motion diffusion model, and generates and scores motions.

from adaqf_train import MotionGenerator, save_motion
joints = MotionGenerator.from_pretrained("runs/demo/adaqf").generate("a person bows")[0]
save_motion("bow.bvh", joints)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = ["AdaQFError", "MotionDataset", "MotionGenerator", "Report", "evaluate", "save_motion"]

_HOME = {
    "AdaQFError": "adaqf_train.errors",
    "MotionDataset": "adaqf_train.data.dataset",
    "MotionGenerator": "adaqf_train.generators.base",
    "Report": "adaqf_train.evaluation.report",
    "evaluate": "adaqf_train.evaluation.api",
    "save_motion": "adaqf_train.files",
}

if TYPE_CHECKING:
    from adaqf_train.data.dataset import MotionDataset
    from adaqf_train.errors import AdaQFError
    from adaqf_train.evaluation.api import evaluate
    from adaqf_train.evaluation.report import Report
    from adaqf_train.files import save_motion
    from adaqf_train.generators.base import MotionGenerator


def __getattr__(name: str) -> object:
    # torch and diffusers cost seconds to import: they are loaded when a public name is first used.
    if name not in _HOME:
        raise AttributeError(f"module 'adaqf_train' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

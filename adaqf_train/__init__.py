"""AdaQF: trains the AdaCLIP adapter together with a motion diffusion model, and generates and scores motions.

from adaqf_train import MotionGenerator, save_motion
joints = MotionGenerator.from_pretrained("runs/demo/adaqf").generate("a person bows")[0]
save_motion("bow.bvh", joints)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaclip._startup import lazy

__all__ = ["AdaQFError", "MotionDataset", "MotionGenerator", "Report", "evaluate", "evaluate_motions", "save_motion"]

__getattr__ = lazy(
    __name__,
    AdaQFError="adaqf_train.errors",
    MotionDataset="adaqf_train.data.dataset",
    MotionGenerator="adaqf_train.generators.base",
    Report="adaqf_train.evaluation.report",
    evaluate="adaqf_train.evaluation.api",
    evaluate_motions="adaqf_train.evaluation.standalone",
    save_motion="adaqf_train.files",
)

if TYPE_CHECKING:
    from adaqf_train.data.dataset import MotionDataset
    from adaqf_train.errors import AdaQFError
    from adaqf_train.evaluation.api import evaluate
    from adaqf_train.evaluation.report import Report
    from adaqf_train.evaluation.standalone import evaluate_motions
    from adaqf_train.files import save_motion
    from adaqf_train.generators.base import MotionGenerator


def __dir__() -> list[str]:
    return sorted(__all__)

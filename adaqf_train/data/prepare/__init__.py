"""Convert motions to HumanML3D's layout, with one module for each kind of source."""

from adaqf_train.data.prepare.amass import prepare_amass
from adaqf_train.data.prepare.bvh import prepare_bvh
from adaqf_train.data.prepare.captions import mirrored_caption
from adaqf_train.data.prepare.joints import LEGS, prepare_joints, resample
from adaqf_train.data.prepare.merge import prepare_merged
from adaqf_train.data.prepare.procedural import is_procedural, prepare_procedural
from adaqf_train.data.prepare.recordings import WINDOW, Summary, check_output

__all__ = [
    "LEGS",
    "WINDOW",
    "Summary",
    "check_output",
    "is_procedural",
    "mirrored_caption",
    "prepare_amass",
    "prepare_bvh",
    "prepare_joints",
    "prepare_merged",
    "prepare_procedural",
    "resample",
]

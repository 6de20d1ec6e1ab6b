"""Write procedural motions in HumanML3D's layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from adaclip.files import read_json
from adaqf_train.data.layout import ORIGIN, CaptionedMotion, write_folder
from adaqf_train.data.prepare.captions import whole
from adaqf_train.data.prepare.joints import resample
from adaqf_train.data.prepare.recordings import check_output
from adaqf_train.motion.mapping import to_kit
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton
from adaqf_train.procedural import generate


def prepare_procedural(folder: Path, *, clips: int, seed: int, skeleton: Skeleton = HUMANML3D) -> dict[str, int]:
    """Write procedural motions with their parameters as a HumanML3D folder; return the number of clips per split.

    skeleton: KIT writes KIT-ML's 21 joints at 12.5 fps, without parameters, which count frames at 20 fps and measure 22
    joints.
    """
    check_output(folder)
    made = {"clips": clips, "seed": seed} | ({} if skeleton is HUMANML3D else {"skeleton": skeleton.name})
    with closing(_generated(clips, seed, skeleton)) as motions:
        return write_folder(folder, motions, origin={"synthetic": made})


def is_procedural(folder: Path, *, clips: int, seed: int) -> bool:
    """Whether `prepare_procedural` wrote `folder` with these settings."""
    path = folder / ORIGIN
    return path.is_file() and read_json(path) == {"synthetic": {"clips": clips, "seed": seed}}


def _generated(clips: int, seed: int, skeleton: Skeleton) -> Iterator[CaptionedMotion]:
    with tqdm(generate(clips, seed), total=clips, desc="Generating motions", unit="clip") as bar:
        for clip in bar:
            joints, facts = clip.joints, {"actions": list(clip.actions)}
            if skeleton is KIT:
                joints, facts = to_kit(resample(joints, HUMANML3D.fps, KIT.fps)), {}
            yield CaptionedMotion(clip.name, joints, whole(clip.captions), clip.split, facts)

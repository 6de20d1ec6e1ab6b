"""Checks of how decoded bodies stand and move: up axis, sides, start, jumps, floor, speed; normalised features."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from adaqf_train.data.layout import Caption
from adaqf_train.doctor.findings import Examination
from adaqf_train.motion import features, orientation
from adaqf_train.motion.orientation import Fault, Kind
from adaqf_train.motion.skeleton import Skeleton

# Captions that explain a body without its head above its feet.
ELSEWHERE = re.compile(
    r"\b(?:l[iay]y?(?:s|es|ing)?|lain|laid|sleep\w*|asleep|crawl\w*|swim\w*|roll\w*|plank\w*|push.?ups?|sit.?ups?|"
    r"hand.?stands?|head.?stands?|cart.?wheel\w*|flips?|flipping|somersault\w*|upside|floor|ground|prone|supine|"
    r"all fours|knees|bridge|yoga|dives?|diving|falls?|fell|falling|stretch\w*)\b",
    re.IGNORECASE,
)
LOOK = "View these clips with --gallery"
FINDINGS: Mapping[Kind, tuple[str, str]] = {
    "up": (
        "bodies lie or stand on their heads, and their captions do not say so",
        "The source has another axis up: convert it again with --up, as the place says.",
    ),
    "mirrored": (
        "left and right are exchanged: knees and toes bend backwards",
        "Exchange left and right in the source's joints, or negate one axis, and convert it again.",
    ),
    "start": (
        "clips start with a rest pose, or jump in their first frames",
        "Convert them again with --skip, which counts frames of the source, to leave these out.",
    ),
    "jump": ("the body jumps between two frames", f"{LOOK}; cut them there, or repair them."),
    "floating": (
        "the feet are off the floor in most frames",
        f"{LOOK}: a single low frame, such as a rest pose, sets the floor. Cut it and convert the clip again.",
    ),
    "speed": (
        "hands and feet move far slower or faster than people's",
        "Check the frame rate of the source; convert it again with --fps.",
    ),
}


def faults_of(joints: np.ndarray, skeleton: Skeleton) -> tuple[Fault, ...]:
    """The faults of decoded joints (T, J, 3), those of size excepted, which are judged over all clips."""
    return tuple(
        fault for fault in orientation.examine(joints, skeleton=skeleton, any_unit=True) if fault.kind in FINDINGS
    )


def check_postures(
    found: Examination, faults: Mapping[str, Sequence[Fault]], captions: Mapping[str, Sequence[Caption]]
) -> None:
    """Note the faults of clips by name; bodies that lie are sound if a caption says so."""
    for kind, (what, remedy) in FINDINGS.items():
        places = []
        for name, of_clip in faults.items():
            explained = kind == "up" and any(ELSEWHERE.search(caption.text) for caption in captions.get(name, ()))
            places += [_place(name, fault) for fault in of_clip if fault.kind == kind and not explained]
        level = "error" if kind in ("up", "mirrored") else "warning"
        found.add(level, what, places, remedy)


def _place(name: str, fault: Fault) -> str:
    details = {"up": f"--up {fault.value}", "jump": f"frame {fault.value}"}
    if fault.kind == "start" and isinstance(fault.value, int):  # at the data set's rate, not at the source's
        details["start"] = "frame 0" if fault.value == 1 else f"frames 0 to {fault.value - 1}"
    if fault.kind == "floating" and isinstance(fault.value, float):
        details["floating"] = f"{100 * fault.value:.0f} cm"
    return f"{name}.npy ({details[fault.kind]})" if fault.kind in details else f"{name}.npy"


def check_normalised(found: Examination, sample: Mapping[str, np.ndarray]) -> bool:
    """Note clips (N, D) that are normalised; return whether most of them are, so that bodies cannot be judged."""
    with np.errstate(all="ignore"):  # absurd features are expected here
        places = [f"{name}.npy" for name, vectors in sample.items() if orientation.looks_normalised(vectors)]
    found.error(orientation.NORMALISED.replace("these ", ""), places, orientation.UNDO)
    return 2 * len(places) > len(sample)


def unflipped(vectors: np.ndarray) -> np.ndarray | None:
    """Features (N, D) with the heading's velocity repaired where it crosses 180 degrees; None if it nowhere does.

    There the official pipeline stores the arcsine of a quaternion of the other sign: one frame turns the wrong way.
    """
    at = features.slices_of_width(vectors.shape[1]).root_rot_velocity.start
    speed = vectors[:, at]
    if len(speed) < 3:
        return None
    inner = (speed[1:-1] * speed[:-2] < 0) & (speed[1:-1] * speed[2:] < 0) & (np.abs(speed[1:-1]) > 1e-3)
    wrong = np.concatenate([[False], inner, [False]])
    if not wrong.any():
        return None
    repaired = vectors.copy()
    repaired[wrong, at] *= -1
    return repaired

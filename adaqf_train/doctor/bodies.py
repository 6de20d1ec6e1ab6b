"""Checks of decoded clips: body size, speed, feet, floor, and consistency of the feature groups."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from adaqf_train.data.clips import load_array
from adaqf_train.data.layout import JOINTS, Caption
from adaqf_train.doctor.findings import Examination
from adaqf_train.doctor.motions import PREPARE, WIDTHS
from adaqf_train.doctor.postures import LOOK, check_normalised, check_postures, faults_of, unflipped
from adaqf_train.errors import DataError
from adaqf_train.motion import features
from adaqf_train.motion.orientation import LEGS, Fault
from adaqf_train.motion.physics import bone_lengths, skating, travelling_speed
from adaqf_train.motion.skeleton import Skeleton

BONES_OFF = 0.005  # metres from the standard skeleton; the official clips agree to 10 micrometres
WALKING = (0.35, 2.2)  # metres per second, median over walks; clips contain stops and turns
WALKS = re.compile(r"\bwalk(?:s|ing|ed)?\b", re.IGNORECASE)
ELSE = re.compile(
    r"\b(?:place|slow\w*|stop\w*|stand\w*|sit\w*|run\w*|jog\w*|treadmill|spot|old|drunk\w*)\b", re.IGNORECASE
)
WALKERS = 5  # number of clips needed for a median
FLOOR = 0.05  # metres between the lowest joint of a clip and the floor
LABELS = 0.95  # share of contact labels that follow from positions; 1 in official clips
SLIDING = 0.3  # share of frame pairs; 0.07 to 0.13 in real captures
ASTRAY = 0.2  # deviations, root mean square, between a group and the values that positions imply
AGAIN = 100  # clips that are encoded again, at most; encoding takes longer than decoding
APART = 0.01  # metres between stored and decoded joints


@dataclass(frozen=True)
class Body:
    """Measurements of a decoded clip, in metres and shares of frames."""

    bones: np.ndarray  # (J-1,)
    leg: float  # thigh and shank
    floor: float  # height of the lowest joint
    sliding: float
    contact: float  # share of labels that are 1
    follows: float  # share of labels that follow from the positions
    speed: float  # metres per second
    astray: dict[str, float]  # group -> deviations from the values that positions imply; empty: not compared
    stored: float | None  # largest distance from new_joints/NAME.npy; None: not compared
    faults: tuple[Fault, ...]  # of posture and movement
    crosses: bool  # whether crossing 180 degrees explains that groups are astray


def check_bodies(
    found: Examination,
    folder: Path,
    sample: Mapping[str, np.ndarray],
    captions: Mapping[str, list[Caption]],
    std: np.ndarray,
) -> None:
    """Decode clips (N, D) by name and note impossible bodies and movements. std: deviation (D,) of all clips."""
    names = sorted(name for name, vectors in sample.items() if len(vectors) > 1)
    if not names:
        return
    if check_normalised(found, {name: sample[name] for name in names}):
        return
    every = -(-len(names) // AGAIN)
    bodies = {}
    with np.errstate(all="ignore"):  # absurd features are expected here
        for number, name in enumerate(names):
            stored = folder / JOINTS / f"{name}.npy"
            bodies[name] = measure(sample[name], std, stored, thorough=number % every == 0)
    skeleton = WIDTHS[len(std)]
    found.facts["decoded_sample"] = f"{len(bodies)} clips"
    facts = {"foot_contact_share": "contact", "contact_labels_that_follow": "follows", "skating": "sliding"}
    for fact, measured in facts.items():
        found.facts[fact] = round(float(np.mean([getattr(body, measured) for body in bodies.values()])), 3)
    _check_sizes(found, bodies, skeleton)
    check_postures(found, {name: body.faults for name, body in bodies.items()}, captions)
    _check_walks(found, bodies, captions)
    _check_feet(found, bodies)
    _check_groups(found, bodies)
    differing = [f"{name}.npy" for name, body in bodies.items() if body.stored is not None and not body.stored <= APART]
    remedy = f"Only the features are read; write both again, or delete {JOINTS}."
    found.warning(f"{JOINTS} does not contain the joints of the features", differing, remedy)


def measure(vectors: np.ndarray, std: np.ndarray, stored: Path, *, thorough: bool) -> Body:
    """Measure features (N, D), N > 1. thorough: also encode them again and compare the stored joints."""
    vectors = vectors.astype(np.float64)
    skeleton, where = WIDTHS[vectors.shape[1]], features.slices_of_width(vectors.shape[1])
    unit = skeleton.units_per_metre
    joints = features.decode(vectors)
    bones = bone_lengths(joints, skeleton) / unit
    labels = features.foot_contacts(torch.from_numpy(joints)).numpy()
    astray = _astray(vectors, joints, std) if thorough else {}
    faults, crosses = faults_of(joints, skeleton), False
    if (repaired := unflipped(vectors)) is not None:
        upright = features.decode(repaired)
        crosses = bool(astray) and max(_astray(repaired, upright, std).values()) <= ASTRAY < max(astray.values())
        if any(fault.kind == "jump" for fault in faults):  # where decoding turns the body the wrong way
            faults = faults_of(upright, skeleton)
    return Body(
        bones,
        leg=float(sum(bones[joint - 1] for joint in skeleton.leg)),
        floor=float(joints[..., 1].min()) / unit,
        sliding=skating(joints, skeleton),
        contact=float(vectors[:, where.contacts].mean()),
        follows=float((labels == (vectors[:-1, where.contacts] > 0.5)).mean()),
        speed=travelling_speed(joints, skeleton),
        astray=astray,
        stored=_distance(stored, joints) / unit if thorough and stored.is_file() else None,
        faults=faults,
        crosses=crosses,
    )


def _astray(vectors: np.ndarray, joints: np.ndarray, std: np.ndarray) -> dict[str, float]:
    """Deviations of the rotations and velocities of features (N, D) from those that their joints (N, J, 3) imply."""
    where, again = features.slices_of_width(vectors.shape[1]), features.encode(joints, canonical=False)
    astray = {}
    for group in ("rotations", "velocities"):
        at = getattr(where, group)
        off = (vectors[:-1, at] - again[:, at]) / np.maximum(std[at], 1e-8)
        astray[group] = float(np.sqrt(np.square(off).mean()))
    return astray


def _check_sizes(found: Examination, bodies: Mapping[str, Body], skeleton: Skeleton) -> None:
    """Note implausible leg lengths, and bones that differ from HumanML3D's standard skeleton."""
    median = float(np.median([body.leg for body in bodies.values()]))
    found.facts["leg_metres"] = round(median, 3)
    wrong = [f"{name}.npy ({body.leg:.3g} m)" for name, body in bodies.items() if not LEGS[0] <= body.leg <= LEGS[1]]
    if 2 * len(wrong) > len(bodies):
        unit = "metres" if skeleton.units_per_metre == 1 else f"units, {skeleton.units_per_metre:g} per metre"
        factor = f"{0.8 / median:.3g}" if 0 < median < np.inf else "the factor that makes legs 0.8 m long"
        remedy = f"Multiply the joints by about {factor} and encode them again. {PREPARE}"
        found.error(f"legs of {median:.3g} m: {skeleton.name} features are in {unit}", wrong, remedy)
    else:
        remedy = f"{LOOK}; repair them, or remove them from the split lists."
        found.warning(f"legs that are not {LEGS[0]:g} to {LEGS[1]:g} m long", wrong, remedy)
    if skeleton.bone_lengths is None or wrong:
        return
    standard = np.array(skeleton.bone_lengths)
    off = {name: float(np.abs(body.bones - standard).max()) for name, body in bodies.items()}
    places = [f"{name}.npy (by {1000 * value:.0f} mm)" for name, value in off.items() if not value <= BONES_OFF]
    what = "bones differ from HumanML3D's standard skeleton, on which the evaluators were trained"
    found.warning(what, places, PREPARE)


def _check_walks(found: Examination, bodies: Mapping[str, Body], captions: Mapping[str, list[Caption]]) -> None:
    """Note an implausible speed of clips whose captions all mention walking, and nothing slower or faster.

    It is the sign of a wrong frame rate or unit.
    """
    walkers = {}
    for name, body in bodies.items():
        texts = [caption.text for caption in captions.get(name, ()) if caption.segment is None]
        if texts and all(WALKS.search(text) and not ELSE.search(text) for text in texts):
            walkers[name] = body
    if len(walkers) < WALKERS:
        return
    speed = float(np.median([body.speed for body in walkers.values()]))
    found.facts["walking_metres_a_second"] = round(speed, 2)
    if not WALKING[0] <= speed <= WALKING[1]:
        what = f"people walk at {speed:.2f} m/s (median of {len(walkers)} clips with captions of walking)"
        places = [f"{name}.npy ({body.speed:.2f} m/s)" for name, body in walkers.items()]
        found.warning(what, places, "Check the frame rate and unit of the clips; prepare joints has --fps.")


def _check_feet(found: Examination, bodies: Mapping[str, Body]) -> None:
    """Note contact labels that do not follow, sliding feet, and bodies off the floor."""
    wrong = [f"{name}.npy ({body.follows:.0%} do)" for name, body in bodies.items() if body.follows < LABELS]
    remedy = f"The program that wrote them used another threshold, frame rate or order of the feet. {PREPARE}"
    found.warning("foot contact labels that do not follow from the positions", wrong, remedy)
    mean = float(np.mean([body.sliding for body in bodies.values()]))
    if mean > SLIDING:
        worst = sorted(bodies.items(), key=lambda item: -item[1].sliding)
        places = [f"{name}.npy ({body.sliding:.0%})" for name, body in worst]
        remedy = f"{LOOK}: a wrong frame rate, unit or floor has this effect."
        found.warning(f"feet slide on the floor in {mean:.0%} of the frames", places, remedy)
    high = [f"{name}.npy ({body.floor:+.2f} m)" for name, body in bodies.items() if not abs(body.floor) <= FLOOR]
    remedy = f"The pipeline puts the lowest joint of each clip at height 0. {PREPARE}"
    found.warning("the lowest point of the body is not on the floor", high, remedy)


def _check_groups(found: Examination, bodies: Mapping[str, Body]) -> None:
    """Note rotations and velocities that differ from those of the official pipeline."""
    crossing = [f"{name}.npy" for name, body in bodies.items() if body.crosses]
    remedy = "None needed: the official pipeline stores a wrong sign there, and decoding turns the body once."
    found.note("the heading crosses 180 degrees, where features lose its sign", crossing, remedy)
    compared = {name: body.astray for name, body in bodies.items() if body.astray and not body.crosses}
    for group in ("rotations", "velocities"):
        off = {name: astray[group] for name, astray in compared.items() if not astray[group] <= ASTRAY}
        places = [f"{name}.npy (by {value:.1f} deviations)" for name, value in off.items()]
        if 2 * len(places) > len(compared):
            remedy = f"The official evaluators and statistics expect HumanML3D's own pipeline. {PREPARE}"
            found.warning(f"the {group} do not follow from the positions: another pipeline wrote them", places, remedy)
        else:
            what = f"in {len(places)} of {len(compared)} clips the {group} do not follow from the positions"
            remedy = "None needed if they turn around: decoding loses the heading where it crosses 180 degrees."
            found.note(what, places, remedy)


def _distance(path: Path, joints: np.ndarray) -> float:
    """Largest distance of stored from decoded joints (N, J, 3), in their unit; infinite if they cannot be compared."""
    with suppress(DataError):
        stored = load_array(path)
        # Joints before encoding have one frame more than their features.
        if stored.shape[1:] == joints.shape[1:] and len(stored) in (len(joints), len(joints) + 1):
            return float(np.abs(stored[: len(joints)] - joints).max())
    return float("inf")

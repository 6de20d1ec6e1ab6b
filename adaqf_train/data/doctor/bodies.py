"""What the features decode to, on a sample of clips: sizes, speeds, feet, and whether the groups tell one story."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from adaqf_train.data.dataset import load_array
from adaqf_train.data.doctor.findings import Examination
from adaqf_train.data.doctor.motions import PREPARE, WIDTHS
from adaqf_train.data.layout import JOINTS, Caption, DataError
from adaqf_train.data.prepare import LEGS
from adaqf_train.motion import features
from adaqf_train.motion.physics import bone_lengths, skating, travelling_speed
from adaqf_train.motion.skeleton import Skeleton

BONES_OFF = 0.005  # metres from the standard skeleton; the official clips agree to 10 micrometres
WALKING = (0.35, 2.2)  # metres a second, median over walks: clips hold stops and turns as well
WALKS = re.compile(r"\bwalk(?:s|ing|ed)?\b", re.IGNORECASE)
ELSE = re.compile(
    r"\b(?:place|slow\w*|stop\w*|stand\w*|sit\w*|run\w*|jog\w*|treadmill|spot|old|drunk\w*)\b", re.IGNORECASE
)
WALKERS = 5  # clips that make a median
FLOOR = 0.05  # metres between the lowest joint of a clip and the floor
LABELS = 0.95  # share of contact labels that follow from the positions; official clips have all
SLIDING = 0.3  # share of frame pairs; HumanML3D itself has about 0.05
ASTRAY = 0.2  # deviations, root mean square, between a group and what the positions imply
AGAIN = 100  # clips that are encoded again, which takes longer than decoding
APART = 0.01  # metres between the stored joints and the features' own


def check_bodies(
    found: Examination,
    folder: Path,
    sample: Mapping[str, np.ndarray],
    captions: Mapping[str, list[Caption]],
    std: np.ndarray,
) -> None:
    """Decodes the sample (N, D) by name and notes what bodies cannot be or do. std (D,) of the clips themselves."""
    if not sample:
        return
    width = next(iter(sample.values())).shape[1]
    skeleton, where = WIDTHS[width], features.slices_of_width(width)
    unit = skeleton.units_per_metre
    lengths, agreement, slides, floors, walks, contact = {}, {}, {}, {}, {}, []
    astray: dict[str, dict[str, float]] = {"velocities": {}, "rotations": {}}
    apart, stored = [], 0
    with np.errstate(all="ignore"):  # absurd features decode to absurd joints, which is what we are looking for
        for number, (name, vectors) in enumerate(sorted(sample.items())):
            vectors = vectors.astype(np.float64)
            contact.append(float(vectors[:, where.contacts].mean()))
            if len(vectors) < 2:
                continue
            joints = features.decode(vectors)
            lengths[name] = bone_lengths(joints, skeleton) / unit
            floors[name] = float(joints[..., 1].min()) / unit
            slides[name] = skating(joints, skeleton)
            if _walks(captions.get(name, ())):
                walks[name] = travelling_speed(joints, skeleton)
            again = _again(joints, number, where)
            labels = vectors[:-1, where.contacts] > 0.5
            agreement[name] = float((labels == again[:, where.contacts]).mean())
            if number < AGAIN:
                for group, off in astray.items():
                    at = getattr(where, group)
                    off[name] = _distance(vectors[:-1, at], again[:, at], std[at])
                difference = _stored_joints(folder, name, joints)
                stored += difference is not None
                if difference is not None and not difference / unit <= APART:
                    apart.append(f"{name}.npy")
    if not lengths:
        return
    found.facts["decoded_sample"] = f"{len(lengths)} clips"
    found.facts["foot_contact_share"] = round(float(np.mean(contact)), 3)
    found.facts["skating"] = round(float(np.mean(list(slides.values()))), 3)
    found.facts["contact_labels_that_follow"] = round(float(np.mean(list(agreement.values()))), 3)
    _check_sizes(found, lengths, skeleton)
    _check_walks(found, walks)
    _check_feet(found, agreement, slides, floors)
    _check_groups(found, astray)
    if stored:
        found.facts["stored_joints_compared"] = f"{stored} clips"
    found.add(
        "warning",
        f"{JOINTS} does not hold the joints that the features decode to",
        apart,
        f"Only the features are read here; write both again, or delete {JOINTS}.",
    )


def _check_sizes(found: Examination, lengths: Mapping[str, np.ndarray], skeleton: Skeleton) -> None:
    """Bones (J-1,) in metres by clip: legs as long as legs are, and HumanML3D's on the standard skeleton."""
    thigh, shank = (joint - 1 for joint in skeleton.leg)
    legs = {name: float(bones[thigh] + bones[shank]) for name, bones in lengths.items()}
    median = float(np.median(list(legs.values())))
    found.facts["leg_metres"] = round(median, 3)
    wrong = [f"{name}.npy ({leg:.3g} m)" for name, leg in legs.items() if not LEGS[0] <= leg <= LEGS[1]]
    unit = "metres" if skeleton.units_per_metre == 1 else f"units, {skeleton.units_per_metre:g} a metre"
    found.add(
        "error",
        f"legs of {median:.3g} m: {skeleton.name} features are in {unit}",
        wrong,
        f"Scale the joints by about {0.8 / median:.3g} and encode them again. {PREPARE}"
        if np.isfinite(median) and median > 0
        else f"Encode the joints again. {PREPARE}",
    )
    if skeleton.bone_lengths is None or wrong:
        return
    standard = np.array(skeleton.bone_lengths)
    off = {name: float(np.abs(bones - standard).max()) for name, bones in lengths.items()}
    found.add(
        "warning",
        "bones are not those of HumanML3D's standard skeleton: the evaluators know no other body",
        [f"{name}.npy (by {1000 * value:.0f} mm)" for name, value in off.items() if not value <= BONES_OFF],
        PREPARE,
    )


def _check_walks(found: Examination, walks: Mapping[str, float]) -> None:
    if len(walks) < WALKERS:
        return
    speed = float(np.median(list(walks.values())))
    found.facts["walking_metres_a_second"] = round(speed, 2)
    if not WALKING[0] <= speed <= WALKING[1]:
        found.add(
            "warning",
            f"people walk at {speed:.2f} m/s (median of {len(walks)} clips whose captions say so)",
            [f"{name}.npy ({value:.2f} m/s)" for name, value in walks.items()],
            "Check the frame rate the clips were written at, and their unit; prepare joints has --fps.",
        )


def _check_groups(found: Examination, astray: Mapping[str, Mapping[str, float]]) -> None:
    """By group: how far each clip is from what its positions imply, in deviations."""
    for group, off in astray.items():
        far = [name for name, value in off.items() if not value <= ASTRAY]
        places = [f"{name}.npy (by {off[name]:.1f} deviations)" for name in far]
        if 2 * len(far) > len(off):
            what = f"the {group} do not follow from the positions: another pipeline wrote them"
            remedy = f"The official evaluators and statistics expect HumanML3D's own pipeline. {PREPARE}"
            found.add("warning", what, places, remedy)
        else:
            what = f"in {len(far)} of {len(off)} clips the {group} do not follow from the positions"
            remedy = "Nothing, if they turn around: decoding loses the heading where it crosses 180 degrees."
            found.add("note", what, places, remedy)


def _check_feet(
    found: Examination, agreement: Mapping[str, float], slides: Mapping[str, float], floors: Mapping[str, float]
) -> None:
    found.add(
        "warning",
        "foot contact labels that do not follow from the positions",
        [f"{name}.npy ({value:.0%} do)" for name, value in agreement.items() if value < LABELS],
        f"Another threshold, frame rate or order of the feet wrote them. {PREPARE}",
    )
    mean = float(np.mean(list(slides.values())))
    if mean > SLIDING:
        found.add(
            "warning",
            f"feet slide on the floor in {mean:.0%} of the frames",
            [f"{name}.npy ({slides[name]:.0%})" for name in sorted(slides, key=slides.__getitem__, reverse=True)],
            "Look at them with --gallery: a wrong frame rate, unit or floor shows so.",
        )
    found.add(
        "warning",
        "the lowest point of the body is not on the floor",
        [f"{name}.npy ({height:+.2f} m)" for name, height in floors.items() if not abs(height) <= FLOOR],
        f"The pipeline puts each clip's lowest joint at height 0. {PREPARE}",
    )


def _again(joints: np.ndarray, number: int, where: features.Slices) -> np.ndarray:
    """Features of decoded joints (N, J, 3) -> (N-1, D); beyond the first AGAIN clips only the labels are filled in."""
    if number < AGAIN:
        return features.encode(joints, canonical=False)
    again = np.zeros((len(joints) - 1, where.contacts.stop))
    again[:, where.contacts] = features.foot_contacts(torch.from_numpy(joints)).numpy()
    return again


def _distance(a: np.ndarray, b: np.ndarray, std: np.ndarray) -> float:
    """Root mean square difference of features (N, d) in their deviations (d,)."""
    return float(np.sqrt(np.mean(np.square((a - b) / np.maximum(std, 1e-8)))))


def _stored_joints(folder: Path, name: str, joints: np.ndarray) -> float | None:
    """Largest distance of new_joints/NAME.npy from decoded joints (N, J, 3); None when there is no such file."""
    path = folder / JOINTS / f"{name}.npy"
    if not path.is_file():
        return None
    try:
        stored = load_array(path)
    except DataError:
        return float("inf")
    # Joints as they were encoded have one frame more than their features.
    if stored.shape[1:] != joints.shape[1:] or len(stored) not in (len(joints), len(joints) + 1):
        return float("inf")
    return float(np.abs(stored[: len(joints)] - joints).max())


def _walks(captions: list[Caption] | tuple[()]) -> bool:
    """Whether all captions of the whole clip speak of walking, and of nothing slower or faster."""
    texts = [caption.text for caption in captions if caption.segment is None]
    return bool(texts) and all(WALKS.search(text) and not ELSE.search(text) for text in texts)

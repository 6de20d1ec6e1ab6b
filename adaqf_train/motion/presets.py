"""The names of joints in usual skeletons, as maps to HumanML3D's 22, and maps made of usual names of body parts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

from adaqf_train.motion.skeleton import HUMANML3D

Point = str | tuple[str, str, float]
JointMap = Mapping[str, Point]

_LEG = ("hip", "knee", "ankle", "foot")
_ARM = ("collar", "shoulder", "elbow", "wrist")


def _body(
    back: str, leg: str, arm: str, sides: tuple[str, str] = ("Left", "Right"), **points: Point
) -> Mapping[str, Point]:
    """A map from names in words: pelvis, one to five of the spine, neck, head; leg and arm with * for the side."""
    pelvis, *spine, neck, head = back.split()
    middle = {"pelvis": pelvis, **_spine(pelvis, spine, neck), "neck": neck, "head": head}
    limbs: dict[str, Point] = {}
    for side, word in zip(("left", "right"), sides, strict=True):
        for parts, names in ((_LEG, leg), (_ARM, arm)):
            limbs |= {
                f"{side}_{part}": name.replace("*", word) for part, name in zip(parts, names.split(), strict=True)
            }
        if limbs[f"{side}_collar"] == "-":
            limbs[f"{side}_collar"] = (neck, str(limbs[f"{side}_shoulder"]), 0.3)
    every = {**middle, **limbs, **points}
    return {joint: every[joint] for joint in HUMANML3D.joints}


def _spine(pelvis: str, names: Sequence[str], neck: str) -> dict[str, Point]:
    """Three points of the back from one to five joints of a spine, from below."""
    match names:
        case [one]:
            points: tuple[Point, ...] = ((pelvis, one, 0.5), one, (one, neck, 0.25))
        case [low, high]:
            points = (low, high, (high, neck, 0.25))
        case [low, a, b, high]:
            points = (low, (a, b, 0.5), high)
        case [low, _, middle, _, high] | [low, middle, high]:
            points = (low, middle, high)
        case _:
            raise ValueError(f"A spine of {len(names)} joints.")
    return {f"spine{number}": point for number, point in enumerate(points, start=1)}


PRESETS: Mapping[str, JointMap] = {
    "humanml3d": {joint: joint for joint in HUMANML3D.joints},  # the files that this package exports; SMPL-X
    # CMU's LowerBack coincides with Hips, its Neck and LeftShoulder with Spine1; other points replace them.
    "cmu": _body(
        "Hips Spine Spine1 Neck1 Head",
        "*UpLeg *Leg *Foot *ToeBase",
        "- *Arm *ForeArm *Hand",
    ),
    "mixamo": _body(
        "Hips Spine Spine1 Spine2 Neck Head", "*UpLeg *Leg *Foot *ToeBase", "*Shoulder *Arm *ForeArm *Hand"
    ),
    "lafan1": _body("Hips Spine Spine1 Spine2 Neck Head", "*UpLeg *Leg *Foot *Toe", "*Shoulder *Arm *ForeArm *Hand"),
    "bandai-namco": _body(
        "Hips Spine Chest Neck Head",
        "UpperLeg_* LowerLeg_* Foot_* Toes_*",
        "Shoulder_* UpperArm_* LowerArm_* Hand_*",
        ("L", "R"),
    ),
    "smpl": _body(
        "Pelvis Spine1 Spine2 Spine3 Neck Head",
        "*_Hip *_Knee *_Ankle *_Foot",
        "*_Collar *_Shoulder *_Elbow *_Wrist",
        ("L", "R"),
    ),
    "xsens": _body(
        "Hips Chest Chest2 Chest3 Chest4 Neck Head",
        "*Hip *Knee *Ankle *Toe",
        "*Collar *Shoulder *Elbow *Wrist",
    ),
    # The first conversion of CMU's database for Daz and Poser; a toe is the end of the foot.
    "cmu-daz": _body(
        "hip abdomen chest neck head",
        "*Thigh *Shin *Foot *Foot_end",
        "*Collar *Shldr *ForeArm *Hand",
        ("l", "r"),
    ),
    "cmu-asf": _body(
        "root lowerback upperback thorax lowerneck head",
        "*femur *tibia *foot *toes",
        "*clavicle *humerus *radius *wrist",
        ("l", "r"),
    ),
    "perception-neuron": _body(
        "Hips Spine Spine1 Spine2 Spine3 Neck Head",
        "*UpLeg *Leg *Foot *Foot_end",
        "*Shoulder *Arm *ForeArm *Hand",
    ),
    "axis-studio": _body(
        "Hips Spine Spine1 Spine2 Neck Head", "*UpLeg *Leg *Foot *Foot_end", "*Shoulder *Arm *ForeArm *Hand"
    ),
    "soma": _body("Hips Spine1 Spine2 Chest Neck1 Head", "*Leg *Shin *Foot *ToeBase", "*Shoulder *Arm *ForeArm *Hand"),
    "snapmogen": _body(
        "C_pelvis0001_bind_JNT C_spine0001_bind_JNT C_spine0002_bind_JNT C_spine0003_bind_JNT C_neck0001_bind_JNT "
        "C_head_bind_JNT",
        "*_legUpper0001_bind_JNT *_legLower0001_bind_JNT *_foot0001_bind_JNT *_foot0002_bind_JNT",
        "*_clavicle_bind_JNT *_armUpper0001_bind_JNT *_armLower0001_bind_JNT *_hand0001_bind_JNT",
        ("L", "R"),
    ),
    "biped": _body(
        "Pelvis Spine Spine1 Spine2 Neck Head",
        "*Thigh *Calf *Foot *Toe0",
        "*Clavicle *UpperArm *Forearm *Hand",
        ("L", "R"),
    ),
    "ue": _body(
        "pelvis spine_01 spine_02 spine_03 neck_01 head",
        "thigh_* calf_* foot_* ball_*",
        "clavicle_* upperarm_* lowerarm_* hand_*",
        ("l", "r"),
    ),
    "unity": _body(
        "Hips Spine Chest UpperChest Neck Head",
        "*UpperLeg *LowerLeg *Foot *Toes",
        "*Shoulder *UpperArm *LowerArm *Hand",
    ),
    "rokoko": _body(
        "Hips Spine1 Spine2 Spine3 Spine4 Neck Head",
        "*Thigh *Shin *Foot *Toe",
        "*Shoulder *Arm *ForeArm *Hand",
    ),
}

# Parts by usual names, for skeletons that mix the conventions above. An asterisk is the side: l, left, before or after.
_PELVES, _NECKS = ("hips", "hip", "pelvis", "root"), ("neck", "neck1", "lowerneck", "necklower")
_SPINES = tuple(
    tuple(names.split())
    for names in (
        "spine1 spine2 spine3 spine4 spine5",
        "spine spine1 spine2 spine3 spine4",
        "spine spine1 spine2 spine3",
        "spine1 spine2 spine3 spine4",
        "chest chest2 chest3 chest4",
        "abdomenlower abdomenupper chestlower chestupper",
        "spine spine1 spine2",
        "spine1 spine2 spine3",
        "spine1 spine2 chest",
        "spine chest upperchest",
        "spine spine1 chest",
        "chest chest1 chest2",
        "lowerback upperback thorax",
        "abdomen abdomen2 chest",
        "spine spine1",
        "spine1 spine2",
        "spine chest",
        "chest chest2",
        "chest upperchest",
        "abdomen chest",
        "ab chest",
        "chest",
        "spine",
        "torso",
    )
)
_LEGS = tuple(
    tuple(names.split())
    for names in (
        "upleg leg foot",
        "upperleg lowerleg foot",
        "upleg lowleg foot",
        "legupper leglower foot",
        "thighbend shin foot",
        "thigh shin foot",
        "thigh calf foot",
        "thigh leg foot",
        "femur tibia foot",
        "leg shin foot",
        "hip knee ankle",
        "hip knee foot",
    )
)
_TOES = ("toebase", "toes", "toe", "toe0", "ball", "forefoot")
_ARMS = tuple(
    tuple(names.split())
    for names in (
        "shoulder arm forearm hand",
        "shoulder upperarm lowerarm hand",
        "collar shoulder elbow wrist",
        "collar shoulder elbow hand",
        "clavicle shoulder elbow wrist",
        "collar shldrbend forearmbend hand",
        "collar shldr forearm hand",
        "collar arm forearm hand",
        "collar uparm lowarm hand",
        "collar upperarm lowerarm hand",
        "collar upperarm forearm hand",
        "clavicle upperarm lowerarm hand",
        "clavicle upperarm forearm hand",
        "clavicle armupper armlower hand",
        "clavicle humerus radius wrist",
        "clavicle humerus radius hand",
        "shoulder upperarm forearm hand",
        "- shoulder elbow wrist",
        "- shoulder elbow hand",
        "- arm forearm hand",
        "- shldr forearm hand",
        "- uparm lowarm hand",
        "- upperarm lowerarm hand",
        "- upperarm forearm hand",
    )
)
_TORSO = re.compile(r"spine|chest|abdomen|thorax|belly|waist")


def key(name: str) -> str:
    """A name without case, separators, leading zeros and the prefix of a biped: "Bip01 L_UpperArm" -> "lupperarm"."""
    plain = re.sub(r"[\s_.\-]+", "", name.lower())
    plain = re.sub(r"^(?:valvebiped)?bip\d+(?=.)|^jbipc?(?=.)", "", plain)
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", plain)


def composed(keys: Mapping[str, str]) -> tuple[JointMap | None, str]:
    """A map made of usual names of parts, or None and the part that has none.

    keys: {key of a name: the name}, of names that are unique by their keys.
    """
    pelvis = next((name for name in _PELVES if name in keys), None)
    spine = next((names for names in _SPINES if all(name in keys for name in names)), None)
    neck = next((name for name in _NECKS if name in keys), None)
    for part, found in (("pelvis", pelvis), ("spine", spine), ("neck", neck), ("head", keys.get("head"))):
        if found is None:
            return None, f"no {part}"
    assert pelvis is not None
    assert spine is not None
    assert neck is not None
    left_over = [name for name in keys if _TORSO.search(name) and name not in spine and not _helper(name)]
    if left_over:
        return None, f"a back with {keys[left_over[0]]}"
    limbs: dict[str, Point] = {}
    for side in ("left", "right"):
        leg = next((leg for leg in _legs(side, keys)), None)
        arm = next((arm for arm in _arms(side, keys, neck)), None)
        if leg is None or arm is None:
            return None, f"no {side} leg with foot and toes or an End Site" if leg is None else f"no {side} arm"
        limbs |= {f"{side}_{part}": point for part, point in zip((*_LEG, *_ARM), (*leg, *arm), strict=True)}
    body = {"pelvis": pelvis, **_spine(pelvis, spine, neck), "neck": neck, "head": "head", **limbs}
    return {joint: _named(body[joint], keys) for joint in HUMANML3D.joints}, ""


def _sided(side: str, part: str) -> Iterator[str]:
    """The keys of a part on one side."""
    for word in (side, side[0]):
        yield from (word + part, part + word)


def _legs(side: str, keys: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for names, place in itertools.product(_LEGS, range(4)):
        leg = [list(_sided(side, part))[place] for part in names]
        if all(name in keys for name in leg):
            toes = [list(_sided(side, part))[place] for part in (*_TOES, *(["foot"] if names[2] != "foot" else []))]
            toe = next((name for name in (*toes, f"{leg[2]}end") if name in keys), None)
            if toe is not None:
                yield (*leg, toe)


def _arms(side: str, keys: Mapping[str, str], neck: str) -> Iterator[tuple[Point, ...]]:
    for names, place in itertools.product(_ARMS, range(4)):
        arm = [list(_sided(side, part))[place] for part in names if part != "-"]
        if all(name in keys for name in arm):
            yield tuple(arm) if len(arm) == 4 else ((neck, arm[0], 0.3), *arm)


def _helper(name: str) -> bool:
    """Whether a joint of the torso is one that bodies do without: ends, twists, and points beside the spine."""
    return name.endswith("end") or re.search(r"twist|roll|breast|pect|helper|nub|tip", name) is not None


def _named(point: Point, keys: Mapping[str, str]) -> Point:
    return keys[point] if isinstance(point, str) else (keys[point[0]], keys[point[1]], point[2])

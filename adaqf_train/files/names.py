"""Joint names of programs and game engines, so that their retargeting recognises an exported skeleton."""

from __future__ import annotations

from typing import Literal, get_args

from adaqf_train.errors import ExportError
from adaqf_train.motion.skeleton import Skeleton

Names = Literal["standard", "mixamo", "ue", "unity"]

# Each standard joint in Mixamo's rigs, the Unreal Engine mannequin, and Unity's humanoid avatar. {side} is Left or
# Right, {s} is l or r. Joints of KIT-ML's skeleton follow those of HumanML3D's that they correspond to.
_SPINE = {
    "pelvis": ("Hips", "pelvis", "Hips"),
    "spine1": ("Spine", "spine_01", "Spine"),
    "spine2": ("Spine1", "spine_02", "Chest"),
    "spine3": ("Spine2", "spine_03", "UpperChest"),
    "neck": ("Neck", "neck_01", "Neck"),
    "head": ("Head", "head", "Head"),
}
_KIT = {"root": "pelvis", "bp": "spine1", "bt": "spine2", "bln": "spine3", "bun": "head"}
_SPINE |= {joint: _SPINE[own] for joint, own in _KIT.items()}
_LIMBS = {
    "hip": ("{side}UpLeg", "thigh_{s}", "{side}UpperLeg"),
    "knee": ("{side}Leg", "calf_{s}", "{side}LowerLeg"),
    "ankle": ("{side}Foot", "foot_{s}", "{side}Foot"),
    "midfoot": ("{side}MidFoot", "midfoot_{s}", "{side}MidFoot"),
    "foot": ("{side}ToeBase", "ball_{s}", "{side}Toes"),
    "toe": ("{side}ToeBase", "ball_{s}", "{side}Toes"),
    "collar": ("{side}Shoulder", "clavicle_{s}", "{side}Shoulder"),
    "shoulder": ("{side}Arm", "upperarm_{s}", "{side}UpperArm"),
    "elbow": ("{side}ForeArm", "lowerarm_{s}", "{side}LowerArm"),
    "wrist": ("{side}Hand", "hand_{s}", "{side}Hand"),
}
PREFIX = {"mixamo": "mixamorig:"}


def joint_names(skeleton: Skeleton, names: Names = "standard") -> tuple[str, ...]:
    """Names of a skeleton's joints in another program; ExportError for a program that is not in the list."""
    if names == "standard":
        return skeleton.joints
    if names not in get_args(Names):
        raise ExportError(f"names {names!r} are unknown. Choose one of: {', '.join(get_args(Names))}.")
    column = get_args(Names).index(names) - 1
    found = []
    for joint in skeleton.joints:
        side, _, part = joint.rpartition("_")
        name = (_LIMBS[part] if side else _SPINE[joint])[column].format(side=side.title(), s=side[:1])
        found.append(PREFIX.get(names, "") + name)
    return tuple(found)

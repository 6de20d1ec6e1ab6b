"""Joints by their names: every preset finds its skeleton, and what fits none says what to write."""

from __future__ import annotations

import itertools

import pytest
import torch

from adaqf_train.errors import DataError
from adaqf_train.motion import mapping
from adaqf_train.motion.mapping import PRESETS, checked, load_map, map_for, recognise, weights
from adaqf_train.motion.skeleton import HUMANML3D

MIXAMO = [point for point in PRESETS["mixamo"].values() if isinstance(point, str)]
PREFIXES = ["", "mixamorig:", "a:b:", "Character1_", "my_body_"]


def names_of(preset: str) -> list[str]:
    """All joints a preset speaks of, the root first."""
    points = PRESETS[preset].values()
    return list(dict.fromkeys(name for p in points for name in ((p,) if isinstance(p, str) else p[:2])))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_recognise_finds_a_preset_under_any_prefix(preset, prefix):
    names = [prefix + name for name in (*names_of(preset), "LeftHandThumb1", "Head_end")]
    assert recognise(names) == preset
    with pytest.raises(DataError):
        recognise([name for name in names if "head" not in name.lower()])


def test_recognise_keeps_prefixes_that_differ():
    with pytest.raises(DataError, match="no preset"):
        recognise([f"{'ab'[index % 2]}_{name}" for index, name in enumerate(MIXAMO)])
    with pytest.raises(DataError, match="no preset"):  # two bodies: which one is meant?
        recognise([f"{body}:{name}" for body in "ab" for name in MIXAMO])
    assert (
        weights(
            [f"{body}:{name}" for body in "ab" for name in MIXAMO],
            {joint: f"b:{name}" for joint, name in PRESETS["mixamo"].items()},
        ).sum()
        == 22
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_give_every_joint_its_own_point_and_swap_sides(preset):
    points = PRESETS[preset]
    assert tuple(points) == HUMANML3D.joints
    assert len(set(points.values())) == len(points)
    matrix = weights(names_of(preset), points)
    torch.testing.assert_close(matrix.sum(1), torch.ones(22, dtype=torch.float64))
    for joint in (joint for joint, other in enumerate(HUMANML3D.mirrored) if joint != other):
        assert str(points[HUMANML3D.joints[joint]]) != str(points[HUMANML3D.joints[HUMANML3D.mirrored[joint]]])


SIDES = [("Left", "Right"), ("L", "R")]
OTHERS = {  # skeletons of files in the wild that mix the conventions
    "optitrack": ("Hips Spine Spine1 Neck Head", "{}UpLeg {}Leg {}Foot {}ToeBase", "{}Shoulder {}Arm {}ForeArm {}Hand"),
    "biovision": ("Hips Chest Neck Head", "{}Hip {}Knee {}Ankle {}Ankle_end", "{}Collar {}Shoulder {}Elbow {}Wrist"),
    "kinect": ("Hips Chest Neck Head", "{}UpLeg {}LowLeg {}Foot {}Foot_end", "{}Collar {}UpArm {}LowArm {}Hand"),
    "genesis": (
        "hip abdomenLower abdomenUpper chestLower chestUpper neckLower head",
        "{}ThighBend {}Shin {}Foot {}Toe",
        "{}Collar {}ShldrBend {}ForearmBend {}Hand",
    ),
    "blender": (
        "pelvis spine.001 spine.002 spine.003 neck head",
        "thigh.{} shin.{} foot.{} toe.{}",
        "shoulder.{} upper_arm.{} forearm.{} hand.{}",
    ),
    "unity": (
        "Hips Spine Chest Neck Head",
        "{}UpperLeg {}LowerLeg {}Foot {}Toes",
        "{}Shoulder {}UpperArm {}LowerArm {}Hand",
    ),
    "ue5": (
        "pelvis spine_01 spine_02 spine_03 spine_04 spine_05 neck_01 head",
        "thigh_{} calf_{} foot_{} ball_{}",
        "clavicle_{} upperarm_{} lowerarm_{} hand_{}",
    ),
    "no collars": ("Hips Spine Spine1 Spine2 Neck Head", "{}UpLeg {}Leg {}Foot {}Foot_end", "{}Arm {}ForeArm {}Hand"),
}


def names_in_the_wild(kind: str, sides: tuple[str, str]) -> list[str]:
    back, leg, arm = OTHERS[kind]
    limbs = [name.format(side) for side in sides for name in f"{leg} {arm}".split()]
    return [*back.split(), *limbs, "Head_end", "LeftHandThumb1"]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("prefix", ["", "rig:", "Character1_"])
def test_map_for_composes_maps_of_usual_names(kind, sides, prefix):
    names = [prefix + name for name in names_in_the_wild(kind, sides)]
    points = map_for(names)
    assert tuple(points) == HUMANML3D.joints
    matrix = weights(names, points)
    torch.testing.assert_close(matrix.sum(1), torch.ones(22, dtype=torch.float64))
    assert len({tuple(row) for row in matrix.tolist()}) == 22
    *_, leg, arm = OTHERS[kind]
    limbs = [*zip(("hip", "knee", "ankle", "foot"), leg.split(), strict=True)]
    limbs += zip(("wrist", "elbow", "shoulder"), reversed(arm.split()), strict=False)
    for (part, name), (side, word) in itertools.product(limbs, zip(("left", "right"), sides, strict=True)):
        row = matrix[HUMANML3D.joints.index(f"{side}_{part}")]
        assert names[int(row.argmax())] == prefix + name.format(word)


@pytest.mark.parametrize("preset", ["humanml3d", "smpl", "xsens", "ue", "biped", "mixamo"])
def test_recognise_ignores_case_and_separators(preset):
    for written in (str.upper, str.lower, lambda name: name.replace("_", " "), lambda name: f"Bip01 {name}"):
        assert recognise([written(name) for name in names_of(preset)]) == preset
    assert load_map(preset.upper()) is PRESETS[preset]


@pytest.mark.parametrize(
    ("lost", "says"),
    [("Foot", "no left leg with foot and toes or an End Site"), ("ForeArm", "no left arm"), ("Neck", "no neck")],
)
def test_map_for_says_which_part_is_missing(lost, says):
    names = [name for name in names_in_the_wild("no collars", SIDES[0]) if lost not in name]
    with pytest.raises(DataError, match=says):
        map_for(names)


def test_map_for_refuses_a_back_that_it_does_not_know():
    names = [name.replace("Spine1", "Belly") for name in names_in_the_wild("no collars", SIDES[0])]
    with pytest.raises(DataError, match=r"no preset .* a back with "):
        map_for(names)


def test_weights_place_points_between_two_joints():
    names = names_of("bandai-namco")
    positions = torch.zeros(2, len(names), 3, dtype=torch.float64)
    positions[:, names.index("Neck")] = torch.tensor([4.0, 8.0, 12.0], dtype=torch.float64)
    joints = weights(names, PRESETS["bandai-namco"]) @ positions
    assert joints[1, HUMANML3D.joints.index("spine3")].tolist() == [1, 2, 3]
    assert joints[1, HUMANML3D.joints.index("neck")].tolist() == [4, 8, 12]


def test_recognise_lists_an_unknown_skeleton_and_shows_a_map():
    with pytest.raises(DataError) as caught:
        recognise(["hip", "abdomen", "chest"])
    message = str(caught.value)
    assert "hip, abdomen, chest" in message
    assert '{"pelvis": "hip", "spine3": ["Chest", "Neck", 0.25]' in message
    assert all(joint in message for joint in HUMANML3D.joints)


def test_checked_accepts_a_users_map():
    content = {joint: f"my {joint}" for joint in HUMANML3D.joints} | {"spine3": ["my spine2", "my neck", 0.3]}
    points = checked(content)
    assert points["spine3"] == ("my spine2", "my neck", 0.3)
    assert weights([f"my {joint}" for joint in HUMANML3D.joints], points).shape == (22, 22)
    with pytest.raises(DataError, match="the joint of spine3, 'my neck', is not among my pelvis"):
        weights([f"my {joint}" for joint in HUMANML3D.joints if joint != "neck"], points)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: list(c), "holds a list"),
        (lambda c: c | {"left_tow": "x"}, "no standard joint is named 'left_tow'. The nearest name is 'left_"),
        (lambda c: {k: v for k, v in c.items() if k not in ("head", "neck")}, "neck, head have no joint"),
        (lambda c: c | {"head": 5}, "head is 5, expected"),
        (lambda c: c | {"head": ""}, "head is ''"),
        (lambda c: c | {"head": ["a", "b"]}, "head is ['a', 'b']"),
        (lambda c: c | {"head": ["a", "b", True]}, "head is ['a', 'b', True]"),
        (lambda c: c | {"head": ["a", "b", float("nan")]}, "head is ["),
        (lambda c: c | {"head": ["a", 1, 0.5]}, "head is ["),
    ],
)
def test_checked_names_the_fault_of_a_map(change, says):
    with pytest.raises(DataError) as caught:
        checked(change({joint: joint for joint in HUMANML3D.joints}))
    assert says in str(caught.value)


def test_cmu_preset_has_no_coinciding_joints():
    """Its helper joints lie on their parents: LowerBack on Hips, Neck and the shoulders on Spine1."""
    positions = {
        "Hips": (0, 17, 0),
        "LowerBack": (0, 17, 0),
        "Spine": (0, 19, 0),
        "Spine1": (0, 21, 0),
        "Neck": (0, 21, 0),
        "Neck1": (0, 22.8, 0),
        "Head": (0, 24.5, 0),
    }
    for side, sign in (("Left", 1), ("Right", -1)):
        positions |= {
            f"{side[0]}HipJoint": (0, 17, 0),
            f"{side}UpLeg": (1.6 * sign, 15.3, 0.8),
            f"{side}Leg": (3.9 * sign, 8.9, 0.8),
            f"{side}Foot": (6.4 * sign, 2, 0.8),
            f"{side}ToeBase": (6.6 * sign, 1.4, 3),
            f"{side}Shoulder": (0, 21, 0),
            f"{side}Arm": (3.4 * sign, 22.2, 0),
            f"{side}ForeArm": (8.3 * sign, 22.2, 0),
            f"{side}Hand": (11.6 * sign, 22.2, 0),
        }
    names = list(positions)
    assert recognise(names) == "cmu"
    pose = weights(names, PRESETS["cmu"]) @ torch.tensor(list(positions.values()), dtype=torch.float64)
    assert HUMANML3D.lengths_of(pose).min() > 0.3
    # On the standard skeleton the shoulders come out beside and above spine3, about where they are there.
    bones = torch.nn.functional.normalize(pose[1:] - pose[list(HUMANML3D.parents[1:])], dim=-1)
    lengths = torch.tensor(HUMANML3D.bone_lengths, dtype=torch.float64)
    standard = HUMANML3D.pose_from_directions(pose[0], bones, lengths)
    x, y, _ = (standard[16] - standard[9]).tolist()
    assert 0.15 < x < 0.25
    assert 0.03 < y < 0.2
    with_helpers = dict(PRESETS["cmu"]) | {"spine1": "LowerBack", "neck": "Neck"}
    assert mapping.weights(names, with_helpers)[3].tolist() != mapping.weights(names, PRESETS["cmu"])[3].tolist()

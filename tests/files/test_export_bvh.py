"""BVH files: two independent readers find the joints where they were; the rest pose, names and timing are right."""

from __future__ import annotations

import numpy as np
import pybvh
import pytest
import torch
from scipy.spatial.transform import Rotation

from adaqf_train.data.prepare.bvh import prepare_bvh
from adaqf_train.files import write_bvh
from adaqf_train.files.bvh import _rows, euler_zxy
from adaqf_train.motion import features, mapping
from adaqf_train.motion.bvh import read_bvh
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.files import bvh_reader
from tests.files.motions import dancer, wobbled, written

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)


def reread(path, skeleton) -> np.ndarray:
    """Joints (T, J, 3) in the skeleton's order, by this package's reader."""
    bvh = read_bvh(path)
    return bvh.positions()[:, [bvh.names.index(name) for name in skeleton.joints]]


@SKELETONS
def test_bvh_reimported_joints_are_where_they_were(tmp_path, skeleton):
    joints = dancer(50, skeleton=skeleton)
    path = tmp_path / "a.bvh"
    animation = written(write_bvh, path, joints, skeleton.fps, skeleton)
    assert not animation.stretches
    assert np.abs(reread(path, skeleton) - joints).max() < 1e-4
    bvh = read_bvh(path)
    assert (bvh.frames, bvh.fps) == (50, skeleton.fps)
    assert {n for n in bvh.names if not n.endswith("_end")} == set(skeleton.joints)
    turns = ("Zrotation", "Xrotation", "Yrotation")
    assert bvh.channels[0] == ("Xposition", "Yposition", "Zposition", *turns)
    assert set(bvh.channels[1:]) == {turns, ()}


@SKELETONS
def test_bvh_is_read_the_same_by_another_library(tmp_path, skeleton):
    joints = dancer(30, skeleton=skeleton)
    written(write_bvh, tmp_path / "a.bvh", joints, skeleton.fps, skeleton)
    other = pybvh.read_bvh_file(str(tmp_path / "a.bvh"))
    order = [list(other.joint_names).index(name) for name in skeleton.joints]
    assert np.abs(np.asarray(other.joint_positions())[:, order] - joints).max() < 1e-4
    assert other.frame_time == pytest.approx(1 / skeleton.fps)


@SKELETONS
@pytest.mark.parametrize("metres", [0.0005, 0.002, 0.03])
def test_bvh_of_noisy_motions_is_read_the_same_by_every_reader(tmp_path, skeleton, metres):
    """Programs add OFFSET to position channels, replace it by them, or refuse them: only the root has them."""
    path, joints = tmp_path / "a.bvh", wobbled(dancer(60, skeleton=skeleton), metres)
    animation = written(write_bvh, path, joints, 20, skeleton)
    other = pybvh.read_bvh_file(str(path))
    order = [list(other.joint_names).index(name) for name in skeleton.joints]
    found = [reread(path, skeleton), np.asarray(other.joint_positions())[:, order]]
    for add in (False, True):
        places = bvh_reader.joints_of(path, add_offsets=add)
        found.append(np.stack([places[name] for name in skeleton.joints], axis=1))
    for places in found:
        assert np.linalg.norm(places - joints, axis=-1).max() == pytest.approx(animation.error, abs=2e-5)
    assert animation.error < 3 * metres


def test_bvh_with_bones_that_stretch_is_exact_for_some_readers(tmp_path):
    path, joints = tmp_path / "a.bvh", wobbled(dancer(60), 0.03)
    written(write_bvh, path, joints, 20, HUMANML3D, bones="stretch")
    assert np.linalg.norm(reread(path, HUMANML3D) - joints, axis=-1).max() < 1e-4
    added = bvh_reader.joints_of(path, add_offsets=True)
    assert np.linalg.norm(added["left_wrist"] - joints[:, HUMANML3D.joints.index("left_wrist")], axis=-1).max() > 0.1


def test_bvh_numbers_have_six_decimals():
    values = np.array([[0.0, -0.0, -1e-9, 123456.7891234, -0.5], [1.0, -1.2345678, 359.9999999, 1000.0, 99.95]])
    expected = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in values) + "\n"
    assert _rows(values).decode() == expected.replace("-0.000000", "0.000000")


def test_bvh_rest_pose_is_a_t_pose_of_the_clips_size(tmp_path):
    joints = dancer(40)
    written(write_bvh, tmp_path / "a.bvh", joints, 20, HUMANML3D)
    bvh = read_bvh(tmp_path / "a.bvh")
    pose = np.zeros((len(bvh.names), 3))
    for joint, parent in enumerate(bvh.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + bvh.offsets[joint]
    at = {name: pose[joint] for joint, name in enumerate(bvh.names)}
    assert np.allclose(bvh.offsets[0], 0)
    for side, sign in (("left", 1), ("right", -1)):
        arm = at[f"{side}_wrist"] - at[f"{side}_shoulder"]
        assert sign * arm[0] == pytest.approx(np.linalg.norm(arm), rel=1e-3)
        leg = at[f"{side}_ankle"] - at[f"{side}_hip"]
        assert -leg[1] == pytest.approx(np.linalg.norm(leg), rel=1e-3)
        assert at[f"{side}_foot"][2] > at[f"{side}_ankle"][2] + 0.05  # toes ahead: it faces +Z
        assert not np.allclose(at[f"{side}_wrist_end"], at[f"{side}_wrist"])  # leaves have a bone, too
    lengths = HUMANML3D.lengths_of(torch.from_numpy(joints)).median(dim=0).values
    for joint in range(1, 22):
        offset = bvh.offsets[bvh.names.index(HUMANML3D.joints[joint])]
        assert np.linalg.norm(offset) == pytest.approx(float(lengths[joint - 1]), abs=1e-5)


def test_euler_zxy_is_scipys_without_jumps(tmp_path):
    time = np.linspace(0, 3, 90)
    wanted = np.stack([200 * time, 60 * np.sin(2 * time), -150 * time], axis=1)  # whole turns
    quaternions = Rotation.from_euler("ZXY", wanted, degrees=True).as_quat()[:, [3, 0, 1, 2]]
    angles = euler_zxy(torch.from_numpy(quaternions)).numpy()
    back = Rotation.from_euler("ZXY", angles, degrees=True)
    assert (back * Rotation.from_quat(quaternions[:, [1, 2, 3, 0]]).inv()).magnitude().max() < 1e-6
    assert np.abs(np.diff(angles, axis=0)).max() < 10
    plain = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]]).as_euler("ZXY", degrees=True)
    assert np.abs(np.diff(plain, axis=0)).max() > 300  # control: other angles jump


@pytest.mark.parametrize("pitch", [90.0, -90.0, 89.99999])
def test_euler_zxy_survives_gimbal_lock(pitch):
    wanted = Rotation.from_euler("ZXY", [[30, pitch, 40], [31, pitch, 40]], degrees=True)
    angles = euler_zxy(torch.from_numpy(wanted.as_quat()[:, [3, 0, 1, 2]]))
    back = Rotation.from_euler("ZXY", angles.numpy(), degrees=True)
    assert (back * wanted.inv()).magnitude().max() < 1e-3


def test_bvh_can_be_imported_again(tmp_path):
    """The importer recognises the joints and gives the features of the joints as they were."""
    source = tmp_path / "files"
    clips = {f"c{number}": features.canonicalise(dancer(50, seed=number)) for number in range(3)}
    for (name, joints), split in zip(clips.items(), ("train", "val", "test"), strict=True):
        source.mkdir(exist_ok=True)
        written(write_bvh, source / f"{name}.bvh", joints, 20, HUMANML3D)
        (source / f"{name}.txt").write_text("a person dances\n")
        (source / f"{split}.txt").write_text(f"{name}\n")
    assert mapping.recognise(read_bvh(source / "c0.bvh").names) == "humanml3d"
    prepare_bvh(source, tmp_path / "out", skip=0)
    for name, joints in clips.items():
        again = np.load(tmp_path / "out" / "new_joints" / f"{name}.npy")
        assert np.linalg.norm(again - features.decode(features.encode(joints)), axis=-1).max() < 0.005


@pytest.mark.data
@pytest.mark.parametrize(
    "clip", ["dataset-1_bow_angry_001", "dataset-1_dash_feminine_001", "dataset-1_kick_normal_001"]
)
def test_bvh_keeps_recorded_clips_from_import_to_export(shared, tmp_path, clip):
    """BVH -> joints -> features -> joints -> BVH -> joints."""
    bvh = read_bvh(shared("bandai-namco") / "bvh" / f"{clip}.bvh")
    recorded = mapping.weights(bvh.names, mapping.PRESETS["bandai-namco"]) @ torch.from_numpy(bvh.positions(20.0))
    canonical = features.canonicalise(recorded).numpy()
    joints = features.decode(features.encode(canonical))
    animation = written(write_bvh, tmp_path / "a.bvh", joints, 20, HUMANML3D)
    assert not animation.stretches  # recorded bones are stiff
    away = np.linalg.norm(reread(tmp_path / "a.bvh", HUMANML3D) - joints, axis=-1).max()
    assert away < 0.001
    assert np.linalg.norm(reread(tmp_path / "a.bvh", HUMANML3D) - canonical[:-1], axis=-1).max() < 0.005

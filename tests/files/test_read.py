"""The reader of motions as they come: every usual layout gives the same joints, and what is wrong is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from adaqf_train.cli import main
from adaqf_train.errors import ExportError
from adaqf_train.files.read import features_of, read_clips
from adaqf_train.motion import features, kinematics, streaming
from adaqf_train.motion.bvh import read_bvh
from adaqf_train.motion.mapping import PRESETS
from adaqf_train.motion.orientation import UPS, turned
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.files.motions import dancer
from tests.helpers import bvh_body, kit_body
from tests.motion.test_orientation import WALK, from_rest

DANCE = features.canonicalise(dancer(30))
EXTRA = np.concatenate([DANCE, DANCE[:, 20:22], np.repeat(DANCE[:, 20:21], 28, 1)], axis=1)  # 52 joints, as SMPL-H


def saved(path, array):
    np.save(path, array, allow_pickle=True)
    return path


@pytest.mark.parametrize(
    ("array", "clips"),
    [
        (DANCE, 1),
        (DANCE.astype(np.float16), 1),
        (DANCE.reshape(30, 66), 1),
        (np.stack([DANCE, DANCE]).reshape(2, 30, 66), 2),
        (EXTRA[:, :24], 1),
        (EXTRA, 1),
        (EXTRA[None], 1),
        (EXTRA.reshape(30, 156), 1),
        (DANCE.transpose(1, 2, 0), 1),
        (np.stack([DANCE, DANCE]).transpose(0, 2, 3, 1), 2),
        (features.encode(DANCE), 1),
        (np.asfortranarray(DANCE), 1),
        (DANCE.astype(">f4"), 1),
    ],
)
def test_read_clips_accepts_every_layout(tmp_path, array, clips):
    found = read_clips(saved(tmp_path / "a.npy", array))
    assert len(found) == clips
    for clip in found:
        wanted = DANCE[: len(clip.joints)]
        assert clip.joints.shape == wanted.shape
        assert clip.joints.dtype == np.float64
        assert np.abs(clip.joints - wanted).max() < 2e-3
        assert clip.skeleton is HUMANML3D
        assert clip.fps is None
        assert len(clip.joints) >= 29


def results(**changes) -> dict:
    content = {
        "motion": np.stack([DANCE, np.concatenate([DANCE[:20], np.zeros((10, 22, 3))])]).transpose(0, 2, 3, 1),
        "text": ["a person dances", "a short dance"],
        "lengths": np.array([30, 20]),
        "num_samples": 2,
        "num_repetitions": 1,
    }
    return content | changes


def test_read_clips_reads_mdms_results_with_lengths_and_captions(tmp_path):
    path = saved(tmp_path / "results.npy", np.array(results(), dtype=object))
    for given in (path, tmp_path):
        first, second = read_clips(given)
        np.testing.assert_allclose(first.joints, DANCE)
        np.testing.assert_allclose(second.joints, DANCE[:20])
        assert (first.caption, second.caption) == ("a person dances", "a short dance")
        assert "motion 1" in second.where
    assert read_clips(path, fps=24)[0].fps == 24


def test_read_clips_reads_folders_with_captions(tmp_path):
    saved(tmp_path / "b.npy", DANCE)
    (tmp_path / "b.txt").write_text("a person dances#a/DET#0.0#0.0\n")
    (tmp_path / "a.bvh").write_text(bvh_body())
    first, second = read_clips(tmp_path)
    assert (first.caption, second.caption) == ("", "a person dances")
    assert first.fps == 20
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match=r"no \.npy, \.bvh or \.npz files"):
        read_clips(tmp_path / "empty")


@pytest.mark.parametrize("up", UPS)
def test_read_clips_turns_joints_and_bvh_that_have_another_axis_up(tmp_path, up):
    lying = DANCE @ turned(np.eye(3), up).T
    path = saved(tmp_path / "a.npy", lying)
    (right,) = read_clips(path, up=up)
    np.testing.assert_allclose(right.joints, DANCE, atol=1e-9)
    (asked,) = read_clips(path)
    assert any("--up " in note for note in asked.notes) is (up != "y")
    assert up == "y" or f"--up {up}" in asked.notes[0]


@pytest.mark.parametrize("preset", ["lafan1", "mixamo", "smpl", "ue"])
def test_read_clips_reads_bvh_in_any_unit_as_metres(tmp_path, preset):
    path = tmp_path / "a.bvh"
    path.write_text(bvh_body(preset, frame_time=1 / 30))
    (clip,) = read_clips(path)
    assert clip.fps == 30
    assert np.median(np.ptp(clip.joints[..., 1], axis=1)) == pytest.approx(1.4, abs=0.2)
    vectors = features_of(clip)
    assert vectors.shape == (32, 263)
    assert read_clips(path, fps=20, skip=10)[0].joints.shape == (40, 22, 3)
    (tmp_path / "map.json").write_text(json.dumps(PRESETS[preset]))
    (mapped,) = read_clips(path, joint_map=str(tmp_path / "map.json"))
    np.testing.assert_array_equal(mapped.joints, clip.joints)


def test_read_clips_cuts_zeros_at_the_end_and_says_so(tmp_path):
    for array in (DANCE, DANCE.reshape(30, 66), features.encode(DANCE), features.encode(kit_body(30))):
        padded = np.concatenate([array, np.zeros((12, *array.shape[1:]))])
        (clip,) = read_clips(saved(tmp_path / "a.npy", padded))
        assert len(clip.joints) == len(array)
        assert "12 frames of zeros" in clip.notes[0]
        assert clip.features is None or len(clip.features) == len(array)
    (still,) = read_clips(saved(tmp_path / "a.npy", DANCE))
    assert not any("zeros" in note for note in still.notes)


def bad(array, says, **options):
    return pytest.param(array, says, options, id=f"{says[:40]} {array.shape}")


LYING = features.encode(DANCE)


@pytest.mark.parametrize(
    ("array", "says", "options"),
    [
        bad(DANCE * 1000, "millimetres. Multiply the joints by 0.001"),
        bad(DANCE * 100, "centimetres. Multiply the joints by 0.01"),
        bad(DANCE / 0.0254, "inches. Multiply the joints by 0.0254"),
        bad(DANCE * 2.5, "people's are 0.6 to 1.15 m long. Multiply the joints by 0.39"),
        bad(DANCE * 640, "KIT-ML's units. Multiply the joints by 0.00156"),
        bad(kit_body(30) / 640 * 1000, "millimetres. Multiply the joints by 0.001"),
        bad(kit_body(30) / 640 * 100, "centimetres. Multiply the joints by 0.01"),
        bad((LYING - LYING.mean(0)) / np.maximum(LYING.std(0), 0.1), "normalised. Undo Mean.npy and Std.npy"),
        bad(np.zeros((20, 263)), "every frame is zero"),
        bad(np.zeros((20, 22, 3)), "every frame is zero"),
        bad(np.ones((20, 22, 3)), "hips, knees and ankles coincide"),
        bad(np.full((20, 22, 3), np.inf), "NaN or infinite values at frame 0"),
        bad(np.zeros((0, 22, 3)), "no frames"),
        bad(np.zeros((20, 23, 3)), "shape (20, 23, 3), expected joints"),
        bad(np.zeros((20, 69)), "shape (20, 69), expected joints"),
        bad(np.zeros((263, 20)), "shape (263, 20), expected joints"),
        bad(np.zeros(66), "shape (66,), expected joints"),
        bad(np.float64(3), "shape (), expected joints"),
        bad(np.zeros((20, 22, 3), np.complex64), "expected floats"),
        bad(np.zeros((20, 22, 3), np.int64), "expected floats"),
        bad(np.array(["a"]), "expected floats"),
        bad(DANCE, "of which 30 are skipped", skip=30),
        bad(np.array({"motion": DANCE}, dtype=object), "missing. Give the results.npy"),
        bad(np.array([DANCE], dtype=object), "results file of MDM"),
    ],
)
def test_read_clips_refuses_what_is_no_motion_in_one_line(tmp_path, array, says, options):
    path = saved(tmp_path / "a.npy", array)
    with pytest.raises((ExportError, ValueError)) as caught:
        read_clips(path, **options)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("seconds", "says"), [("33.3333", "--fps 30 if it is milliseconds"), ("60", "--fps 60 if")])
def test_read_clips_refuses_frame_times_in_other_units(tmp_path, seconds, says):
    path = tmp_path / "a.bvh"
    path.write_text(bvh_body().replace("Frame Time: 0.05", f"Frame Time: {seconds}"))
    with pytest.raises(ExportError, match=says):
        read_clips(path)
    assert read_clips(path, fps=30)[0].fps == 30


def test_read_clips_notes_rest_poses_jumps_and_mirrored_bodies(tmp_path):
    (mirrored,) = read_clips(saved(tmp_path / "a.npy", DANCE[:, list(HUMANML3D.mirrored)]))
    assert "left and right are exchanged" in mirrored.notes[0]
    jumping = DANCE.copy()
    jumping[15:] += 0.4
    assert "jumps" in read_clips(saved(tmp_path / "a.npy", jumping))[0].notes[0]


def posed(frames: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 22, 3) and local rotations (T, 22, 4) of a body from a T-pose that walks in a circle."""
    rng = np.random.default_rng(2)
    times = np.arange(frames)[:, None, None] / 30
    axes = 0.3 * np.sin(rng.uniform(2, 5, (1, 22, 3)) * times + rng.uniform(0, 6, (1, 22, 3)))
    axes[:, 0] = 0
    axes[:, 0, 1] = 3 * times[:, 0, 0]
    quaternions = Rotation.from_rotvec(axes.reshape(-1, 3)).as_quat().reshape(frames, 22, 4)[..., [3, 0, 1, 2]]
    offsets = np.array(HUMANML3D.rest_directions, float)
    offsets[[18, 20]], offsets[[19, 21]] = [1, 0, 0], [-1, 0, 0]
    offsets = np.repeat((offsets * np.r_[0, HUMANML3D.bone_lengths][:, None])[None], frames, 0)
    offsets[:, 0] = np.concatenate([np.sin(times[:, 0]), 0 * times[:, 0] + 0.9, np.cos(times[:, 0])], axis=-1)
    turns = torch.from_numpy(quaternions)
    return kinematics.forward(torch.from_numpy(offsets), turns, HUMANML3D.parents)[0].numpy(), quaternions


def test_streaming_features_give_the_joints_back(tmp_path):
    joints, turns = posed()
    vectors = streaming.encode(joints, turns)
    assert vectors.shape == (40, 272)
    floor = joints - [joints[0, 0, 0], joints[..., 1].min(), joints[0, 0, 2]]
    np.testing.assert_allclose(streaming.decode(vectors), floor, atol=1e-9)
    (clip,) = read_clips(saved(tmp_path / "a.npy", vectors.astype(np.float32)))
    assert clip.fps == 30
    np.testing.assert_allclose(clip.joints, floor, atol=1e-4)
    # The heading at frame 0 is not part of the features: decoding faces +Z.
    quarter = torch.tensor([np.cos(np.pi / 4), 0, np.sin(np.pi / 4), 0])
    from adaqf_train.motion import rotations

    other = turns.copy()
    other[:, 0] = rotations.multiply(quarter.expand(40, 4).double(), torch.from_numpy(turns[:, 0])).numpy()
    rotated = rotations.rotate(quarter.double(), torch.from_numpy(joints)).numpy()
    np.testing.assert_allclose(streaming.encode(rotated, other), vectors, atol=1e-9)


def test_streaming_features_equal_the_description_frame_by_frame():
    joints, turns = posed(12)
    vectors = streaming.encode(joints, turns)
    matrices = Rotation.from_quat(turns[..., [1, 2, 3, 0]].reshape(-1, 4)).as_matrix().reshape(12, 22, 3, 3)
    for frame in range(1, 12):
        yaw, before = (-np.arctan2(m[0, 0, 2], m[0, 2, 2]) for m in (matrices[frame], matrices[frame - 1]))
        heading, turn = (Rotation.from_euler("y", angle).as_matrix() for angle in (yaw, yaw - before))
        step = Rotation.from_euler("y", before).as_matrix() @ (joints[frame, 0] - joints[frame - 1, 0])
        np.testing.assert_allclose(vectors[frame, :2], step[[0, 2]], atol=1e-9)
        np.testing.assert_allclose(vectors[frame, 2:8], turn[:2].ravel(), atol=1e-9)
        local = (joints[frame] - joints[frame, 0] * [1, 0, 1] - [0, joints[..., 1].min(), 0]) @ heading.T
        np.testing.assert_allclose(vectors[frame, 8:74], local.ravel(), atol=1e-9)
        root = heading @ matrices[frame, 0]
        np.testing.assert_allclose(vectors[frame, 140:146], root[:2].ravel(), atol=1e-9)
        np.testing.assert_allclose(vectors[frame, 146:152], matrices[frame, 1, :2].ravel(), atol=1e-9)


@pytest.mark.data
def test_read_clips_reads_shared_cases(shared):
    cases = shared("bandai-namco").parent.parent / "cases" / "motion"
    if not cases.is_dir():
        pytest.skip(f"no {cases}")
    assert [clip.joints.shape for clip in read_clips(cases / "mdm_results.npy")]
    assert read_clips(cases / "walk22.npy")[0].notes == ()
    for name, says in (("kit_mm21.npy", "0.001"), ("normalised263.npy", "Undo Mean.npy")):
        with pytest.raises(ExportError, match=says):
            read_clips(cases / name)
    for name, says in (("zup22.npy", "--up z"), ("lrswap22.npy", "exchanged")):
        assert says in read_clips(cases / name)[0].notes[0]
    daz = read_clips(cases / "cgspeed_02_02_head.bvh")[0]
    assert "--skip 5" in daz.notes[0]


@pytest.mark.data
def test_read_clips_reads_shared_captures(shared):
    for path in sorted((shared("bandai-namco") / "bvh").glob("*.bvh"))[::12]:
        (clip,) = read_clips(path)
        assert clip.fps == read_bvh(path, limit=1).fps
        assert clip.notes == ()
        assert KIT is not clip.skeleton


def test_convert_names_its_own_options(tmp_path, capsys):
    """--fps is the rate of the output there; --skip 0 silences the advice that offers it."""
    path, out = tmp_path / "a.bvh", str(tmp_path / "b.npy")
    path.write_text(bvh_body().replace("Frame Time: 0.05", "Frame Time: 50"))
    assert main(["convert", str(path), out]) == 1
    assert "Give --source-fps 20 if it is milliseconds or --source-fps 50" in capsys.readouterr().err
    np.save(tmp_path / "c.npy", from_rest(WALK, 1))
    assert main(["convert", str(tmp_path / "c.npy"), out]) == 0
    assert "--skip 1 to skip the first frame, or --skip 0 to keep it" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "c.npy"), out, "--skip", "0"]) == 0
    assert "--skip" not in capsys.readouterr().err


def test_convert_refuses_272_features_of_one_frame(tmp_path, capsys):
    np.save(tmp_path / "a.npy", dancer(1))
    assert main(["convert", str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--format", "features-272"]) == 1
    assert "only one frame" in capsys.readouterr().err
    assert not (tmp_path / "b.npy").exists()


def test_convert_writes_and_reads_motionstreamers_features(tmp_path, capsys):
    source, there, back = (tmp_path / f"{name}.npy" for name in ("source", "there", "back"))
    np.save(source, DANCE)
    assert main(["convert", str(source), str(there), "--format", "features-272"]) == 0
    vectors = np.load(there)
    assert vectors.shape == (44, 272)  # 30 frames at 20 fps, at 30
    assert main(["convert", str(there), str(back)]) == 0
    assert "at 30 frames per second" in capsys.readouterr().out
    joints = np.load(back)[::3]  # every other frame of the source
    wanted = DANCE[::2] - [0, DANCE[..., 1].min(), 0]
    assert np.abs(joints[..., 1] - wanted[: len(joints), :, 1]).max() < 0.01
    for frame in range(len(joints)):  # the same poses, up to place and heading
        distances = [np.linalg.norm(body[:, None] - body[None], axis=-1) for body in (joints[frame], wanted[frame])]
        assert np.abs(distances[0] - distances[1]).max() < 0.01

"""SMPL's parameters: a model's forward kinematics of the file gives the joints back; AMASS's readers accept it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train.cli import main
from adaqf_train.data.prepare.amass import parameters
from adaqf_train.errors import ExportError
from adaqf_train.files import save_motion
from adaqf_train.files.smpl import PELVIS, REST, fit_smpl, to_axis_angle
from adaqf_train.motion import kinematics, rotations
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.files.motions import dancer


def mean_body(frames: int = 40) -> np.ndarray:
    """Joints (T, 22, 3) of SMPL's mean body, metres, Y up, in the turns of a dance."""
    turns = fit_smpl(dancer(frames), HUMANML3D).animation.turns
    translations = REST.expand(frames, -1, -1).clone()
    translations[:, 0] = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None] * torch.tensor((1.0, 0.2, 2.0))
    return kinematics.forward(translations, turns, HUMANML3D.parents)[0].numpy()


def joints_of(path, pelvis: tuple[float, ...]) -> np.ndarray:
    """Joints (T, 22, 3), Z up, as a body model computes them from a file: rest positions, poses and trans."""
    with np.load(path, allow_pickle=False) as file:
        poses, trans = torch.from_numpy(file["poses"]), torch.from_numpy(file["trans"])
    turns = rotations.from_axis_angle(poses.unflatten(-1, (-1, 3))[:, :22])
    translations = REST.expand(len(trans), -1, -1).clone()
    translations[:, 0] = torch.tensor(pelvis) + trans
    return kinematics.forward(translations, turns, HUMANML3D.parents)[0].numpy()


@pytest.mark.parametrize(("body", "width"), [("smplh", 156), ("smplx", 165)])
def test_smpl_file_gives_the_joints_of_the_mean_body_back(tmp_path, body, width):
    joints = mean_body()
    path = save_motion(tmp_path / "a.npz", joints, fps=20, body=body)
    found = joints_of(path, PELVIS[body])
    np.testing.assert_allclose(found[..., [0, 2, 1]] * (1, 1, -1), joints, atol=1e-4)
    with np.load(path, allow_pickle=False) as file:
        assert file["poses"].shape == (40, width)
        assert not file["poses"][:, 66:].any()
        assert not file["betas"].any()
        assert file["betas"].shape == (16,)
        assert file["gender"] == "neutral"
        assert file["mocap_framerate"] == 20
        if body == "smplx":
            np.testing.assert_array_equal(file["root_orient"], file["poses"][:, :3])
            np.testing.assert_array_equal(file["pose_body"], file["poses"][:, 3:66])
            shapes = [file[f"pose_{part}"].shape[1] for part in ("jaw", "eye", "hand")]
            assert shapes == [3, 6, 90]
            assert (file["mocap_frame_rate"], file["surface_model_type"]) == (20, "smplx")


def test_smpl_rotations_are_relative_to_its_rest_pose():
    """Bones of any length point where they did, in the directions that SMPL's rest pose and the rotations give."""
    joints = dancer(30, seed=2)
    motion = fit_smpl(joints, HUMANML3D)
    np.testing.assert_allclose(motion.animation.positions(), joints, atol=1e-6)
    rest = torch.nn.functional.cosine_similarity(motion.animation.offsets, REST, dim=-1)
    alone = [child for below in HUMANML3D.children if len(below) == 1 for child in below]
    assert float(rest[alone].min()) == pytest.approx(1)
    assert float(rest[1:].min()) > 0.9  # hips, neck and collars have the clip's own shape
    assert motion.error < 0.12  # this body is no SMPL body
    still = fit_smpl(mean_body(5), HUMANML3D)
    assert (still.scale, still.error) == (pytest.approx(1), pytest.approx(0, abs=1e-6))


def test_smpl_scales_the_path_with_the_legs():
    tall = fit_smpl(1.25 * mean_body(), HUMANML3D)
    assert tall.scale == pytest.approx(0.8)
    np.testing.assert_allclose(tall.positions(), mean_body(), atol=1e-5)


def test_smpl_feet_stand_on_the_floor_of_other_skeletons():
    """Hips that sit higher above the thighs than SMPL's would put the mean body's feet below the floor."""
    joints = dancer(40)
    joints[:, 0] += [0, 0.05, 0]
    motion = fit_smpl(joints, HUMANML3D)
    lowest = [places[:, HUMANML3D.feet, 1].min(axis=1) for places in (motion.positions(), motion.scale * joints)]
    assert abs(np.median(lowest[0] - lowest[1])) < 1e-3
    assert motion.lift < -0.03  # control: without it, the feet are off by that
    assert fit_smpl(mean_body(5), HUMANML3D).lift == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("body", ["smplh", "smplx"])
def test_smpl_file_is_read_back_by_convert(tmp_path, capsys, body):
    path = save_motion(tmp_path / "a.npz", mean_body(), fps=30, body=body)
    assert main(["convert", str(path), str(tmp_path / "a.npy")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), mean_body(), atol=1e-4)
    assert "at 30 frames per second" in capsys.readouterr().out
    with np.load(path) as file:
        np.savez(tmp_path / "b.npz", **{**file, "betas": np.ones(16)})
    assert main(["convert", str(tmp_path / "b.npz"), str(tmp_path / "b.bvh")]) == 0
    assert "SMPL's mean shape" in capsys.readouterr().err
    np.savez(tmp_path / "c.npz", poses=np.zeros((5, 66)))
    (tmp_path / "d.npz").write_bytes(b"PK")
    for options, says in (
        (["a", "--up", "x"], "have Z up"),
        (["c"], "not an SMPL-H file"),
        (["d"], "not a file of AMASS"),
    ):
        name, *rest = options
        assert main(["convert", str(tmp_path / f"{name}.npz"), str(tmp_path / "e.bvh"), *rest]) == 1
        assert says in capsys.readouterr().err
    assert not (tmp_path / "e.bvh").exists()


def test_smpl_file_is_read_by_prepare_amass(tmp_path):
    clip = parameters(save_motion(tmp_path / "a.npz", dancer(30), fps=60, source_fps=20))
    assert (clip.fps, clip.gender, clip.poses.shape) == (60, "neutral", (88, 156))


def test_to_axis_angle_inverts_from_axis_angle():
    vectors = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors = torch.cat(
        [vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1), torch.zeros(1, 3), 1e-9 * vectors[:1]]
    )
    torch.testing.assert_close(to_axis_angle(rotations.from_axis_angle(vectors)), vectors)
    torch.testing.assert_close(to_axis_angle(-rotations.from_axis_angle(vectors)), vectors)


def test_smpl_refuses_other_skeletons_and_models(tmp_path, capsys):
    with pytest.raises(ExportError, match="SMPL has HumanML3D's 22 joints, not the 21 of kit"):
        save_motion(tmp_path / "a.npz", dancer(5, skeleton=KIT))
    with pytest.raises(ExportError, match="body model 'smpl2' is unknown"):
        save_motion(tmp_path / "a.npz", dancer(5), body="smpl2")
    assert not list(tmp_path.iterdir())
    np.save(tmp_path / "a.npy", dancer(20))
    assert main(["convert", str(tmp_path / "a.npy"), str(tmp_path / "a.npz"), "--body", "smplx"]) == 0
    assert "joints of SMPL's mean body are" in capsys.readouterr().out

"""Rotations from positions: forward kinematics gives the joints back, and what positions leave open is natural."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train.files.animation import Animation, hinges, solve_rotations
from adaqf_train.motion import kinematics, rotations
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.files.motions import dancer, posed, t_pose, wobbled

AT = {name: joint for joint, name in enumerate(HUMANML3D.joints)}


def degrees(q: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """Angle between rotations (..., 4)."""
    return 2 * torch.acos((q * r).sum(-1).abs().clamp(max=1)).rad2deg()


def quickest(turns: torch.Tensor) -> float:
    """The largest turn of a joint from one frame to the next, degrees."""
    return float(degrees(turns[1:], turns[:-1]).max())


def ramp(axis: tuple[float, float, float], frames: int = 30, to: float = 90.0) -> torch.Tensor:
    return torch.linspace(0, np.radians(to), frames)[:, None] * torch.tensor(axis)


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)
def test_solve_rotations_recovers_rigid_bodies(skeleton):
    joints = dancer(60, skeleton=skeleton)
    animation = solve_rotations(joints, skeleton)
    assert not animation.stretches
    assert np.abs(animation.positions() - joints).max() < 1e-6
    assert animation.error < 1e-6
    other = kinematics.forward(animation.translations, animation.turns.flip(0), skeleton.parents)[0]
    assert np.abs(other.numpy() - joints).max() > 0.1  # control: the turns of other frames do not


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)
def test_solve_rotations_of_the_t_pose_are_identities(skeleton):
    joints = posed({0: torch.zeros(3, 3)}, skeleton)
    animation = solve_rotations(joints, skeleton)
    assert float(degrees(animation.turns, rotations.identity(animation.turns.shape[:2], animation.turns)).max()) < 1e-3
    offsets = animation.offsets.numpy()
    np.testing.assert_allclose(offsets, t_pose(skeleton).numpy(), atol=1e-9)
    for side, x in (("left", 1), ("right", -1)):  # facing +Z with the arms stretched out to the sides
        wrist = skeleton.joints.index(f"{side}_wrist")
        assert offsets[wrist] @ (x, 0, 0) == pytest.approx(np.linalg.norm(offsets[wrist]))


def test_solve_rotations_keeps_the_shape_of_branches():
    joints = dancer()
    offsets = t_pose()
    wide = offsets.clone()
    wide[AT["left_hip"]] = torch.tensor([0.12, -0.02, 0.0])
    wide[AT["right_hip"]] = torch.tensor([-0.12, -0.02, 0.0])
    turns = solve_rotations(joints, HUMANML3D).turns
    translations = wide.expand(len(joints), -1, -1)
    joints = kinematics.forward(translations, turns, HUMANML3D.parents)[0].numpy()
    animation = solve_rotations(joints, HUMANML3D)
    assert animation.error < 1e-4
    left, right = animation.offsets[AT["left_hip"]], animation.offsets[AT["right_hip"]]
    assert float((left - right).norm()) == pytest.approx(0.24, abs=1e-4)


@pytest.mark.parametrize(
    ("turned", "hinge", "axis"),
    [
        ("left_shoulder", "left_elbow", (0, -1, 0)),
        ("right_shoulder", "right_elbow", (0, 1, 0)),
        ("left_hip", "left_knee", (1, 0, 0)),
        ("right_hip", "right_knee", (1, 0, 0)),
    ],
)
def test_solve_rotations_turns_upper_limbs_with_the_bend(turned, hinge, axis):
    """A limb turned about itself by 50 degrees and bent: the bend shows how it is turned."""
    along = torch.nn.functional.normalize(t_pose()[AT[hinge]], dim=-1)
    roll = torch.full((30, 1), np.radians(50.0)) * along
    bend = ramp(axis, to=100)
    animation = solve_rotations(posed({AT[turned]: roll, AT[hinge]: bend}), HUMANML3D)
    truth = rotations.from_axis_angle(roll.double())
    away = degrees(animation.turns[:, AT[turned]], truth)
    assert float(away[-1]) < 8
    assert float(away[0]) == pytest.approx(50, abs=1)  # control: a straight limb shows nothing
    assert quickest(animation.turns) < 15


def test_solve_rotations_of_straight_limbs_do_not_flutter():
    """Of a straight arm the bend's plane is noise: what follows the noise turns by any angle, this by a few degrees."""
    joints = wobbled(posed({AT["left_shoulder"]: torch.zeros(60, 3)}), 0.001)
    bone = joints[:, 1:] - joints[:, list(HUMANML3D.parents[1:])]
    normal = np.cross(bone[:, AT["left_elbow"] - 1], bone[:, AT["left_wrist"] - 1])
    plane = np.degrees(np.unwrap(np.arctan2(normal[:, 1], normal[:, 2])))
    assert np.abs(np.diff(plane)).max() > 60  # control
    assert quickest(solve_rotations(joints, HUMANML3D).turns[:, [AT["left_shoulder"]]]) < 6


def test_solve_rotations_shares_a_turn_along_the_spine():
    third = ramp((0, 1, 0), to=25)
    animation = solve_rotations(posed({AT["spine1"]: third, AT["spine2"]: third, AT["spine3"]: third}), HUMANML3D)
    truth = rotations.from_axis_angle(third.double())
    for joint in ("spine1", "spine2", "spine3"):
        assert float(degrees(animation.turns[:, AT[joint]], truth).max()) < 0.1
    assert float(degrees(truth[-1], truth[0])) == pytest.approx(25, abs=0.1)


def test_solve_rotations_of_smooth_motions_are_smooth():
    turns = solve_rotations(dancer(200, seed=3), HUMANML3D).turns
    assert quickest(turns) < 15
    assert float((turns[1:] * turns[:-1]).sum(-1).min()) > 0  # no sign jumps: editors interpolate components


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)
@pytest.mark.parametrize("metres", [0.0005, 0.002, 0.005, 0.02])
def test_solve_rotations_errors_do_not_add_up(skeleton, metres):
    """Noise of 2 mm in each coordinate moves joints by up to 9 mm; rigid bones do not move them further."""
    joints = dancer(60, skeleton=skeleton)
    noisy = wobbled(joints, metres)
    animation = solve_rotations(noisy, skeleton)
    away = np.linalg.norm(animation.positions() - noisy, axis=-1)
    assert animation.error == pytest.approx(away.max(), abs=1e-6)
    assert away.max() < 3 * metres
    lowest = [places[:, list(skeleton.feet), 1].min() for places in (animation.positions(), noisy)]
    assert abs(lowest[0] - lowest[1]) < 2 * metres
    truth = np.linalg.norm(animation.positions() - joints, axis=-1)
    assert truth.mean() < np.linalg.norm(noisy - joints, axis=-1).mean()  # control: it is nearer to the body itself
    lengths = skeleton.lengths_of(torch.from_numpy(animation.positions()))
    assert float(lengths.std(dim=0).max()) < 1e-9


def test_solve_rotations_stretches_bones_on_request():
    noisy = wobbled(dancer(), 0.02)
    assert not solve_rotations(noisy, HUMANML3D).stretches
    animation = solve_rotations(noisy, HUMANML3D, "stretch")
    assert animation.stretches
    assert np.abs(animation.positions() - noisy).max() < 1e-9


def narrow_chest(spread: float) -> np.ndarray:
    """A body (60, 22, 3) whose collars leave the chest along the neck, up to `spread` metres to the sides."""
    offsets = t_pose()
    for side, x in (("left", 1), ("right", -1)):
        offsets[AT[f"{side}_collar"]] = torch.tensor((x * spread, 0.12, 0.0))
    turns = solve_rotations(dancer(60, seed=1), HUMANML3D).turns
    for side in ("left", "right"):  # the shoulders stay beside the chest
        turns[:, AT[f"{side}_collar"]] = rotations.identity((60,), turns)
    translations = offsets.expand(60, -1, -1)
    return kinematics.forward(translations, turns, HUMANML3D.parents)[0].numpy()


def chest_of(animation: Animation) -> torch.Tensor:
    """Global rotations (T, 4) of the upper chest."""
    return kinematics.forward(animation.translations, animation.turns, HUMANML3D.parents)[1][:, AT["spine3"]]


@pytest.mark.parametrize("spread", [0.0, 0.00001, 0.003, 0.02, 0.07])
@pytest.mark.parametrize("bones", ["rigid", "stretch"])
def test_solve_rotations_of_chests_do_not_spin(spread, bones):
    """The chest turns as the line between the shoulders does, whatever the noise: 1 mm on 35 cm is a third of 1°."""
    joints = narrow_chest(spread)
    truth = chest_of(solve_rotations(joints, HUMANML3D, bones))
    assert quickest(truth) < 8
    for millimetres in (0.01, 0.1, 0.5, 1, 2, 5):
        chest = chest_of(solve_rotations(wobbled(joints, millimetres / 1000), HUMANML3D, bones))
        assert float(degrees(chest, truth).max()) < 3.5 + millimetres, millimetres
        assert quickest(chest) < 11 + millimetres, millimetres


def test_solve_rotations_of_short_bones_do_not_turn_with_the_noise():
    """A spine whose last bone is 3 cm long: 5 mm of noise at its ends would turn it by up to 50 degrees."""
    offsets = t_pose()
    offsets[AT["spine3"]] *= 0.03 / float(offsets[AT["spine3"]].norm())
    turns = rotations.identity((150, 22), torch.zeros((), dtype=torch.float64))
    joints = kinematics.forward(offsets.expand(150, -1, -1), turns, HUMANML3D.parents)[0].numpy()
    for metres in (0.002, 0.005):
        animation = solve_rotations(wobbled(joints, metres), HUMANML3D)
        placed = kinematics.forward(animation.translations, animation.turns, HUMANML3D.parents)[1]
        assert max(quickest(placed[:, AT[name]]) for name in ("spine1", "spine2", "spine3")) < 25
        assert animation.error < 4 * metres


@pytest.mark.data
def test_solve_rotations_keeps_a_recorded_chest_from_spinning(shared):
    joints = np.load(shared("cases/motion") / "chest_spin_pymo.npy")
    for millimetres in (0, 1, 2, 5):
        assert quickest(chest_of(solve_rotations(wobbled(joints, millimetres / 1000), HUMANML3D))) < 7 + millimetres


@pytest.mark.parametrize("joints", [np.zeros((5, 22, 3)), dancer(1), np.repeat(dancer(1), 3, axis=0)])
def test_solve_rotations_of_degenerate_motions_are_finite(joints):
    animation = solve_rotations(joints, HUMANML3D)
    assert torch.isfinite(animation.turns).all()
    assert np.abs(animation.positions() - joints).max() < 1e-6


def test_solve_rotations_accepts_a_joint_on_its_parent():
    joints = dancer()
    joints[:, AT["left_wrist"]] = joints[:, AT["left_elbow"]]
    animation = solve_rotations(joints, HUMANML3D)
    assert torch.isfinite(animation.turns).all()
    assert np.abs(animation.positions() - joints).max() < 1e-6


def test_hinges_are_below_shoulders_and_hips():
    for skeleton in (HUMANML3D, KIT):
        names = {skeleton.joints[joint] for joint in hinges(skeleton)}
        assert names == {f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "hip")}

"""Feet on the floor stay where they are; legs keep their lengths, and nothing else moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train.cli import main
from adaqf_train.files import save_motion
from adaqf_train.files.feet import hold_feet
from adaqf_train.motion import physics
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton
from tests.files.bvh_reader import joints_of
from tests.files.motions import dancer, posed, wobbled

LEGS = [HUMANML3D.joints.index(f"{side}_{part}") for side in ("left", "right") for part in ("knee", "ankle", "foot")]


def skater(skeleton: Skeleton = HUMANML3D, frames: int = 60) -> np.ndarray:
    """A body that stands with bent knees while it glides forward at 0.3 m/s and its feet tremble."""
    bend = {}
    for side in ("left", "right"):
        knee, hip = skeleton.joints.index(f"{side}_knee"), skeleton.joints.index(f"{side}_hip")
        bend[knee] = torch.tensor((0.8, 0.0, 0.0)).expand(frames, 3)
        bend[hip] = torch.tensor((-0.4, 0.0, 0.0)).expand(frames, 3)
    joints = posed(bend, skeleton)
    joints = joints + 0.3 * np.arange(frames)[:, None, None] / 20 * (0, 0, 1)
    joints[20:40, list(skeleton.feet)] += (0, 0.2, 0)  # both feet leave the floor
    joints[..., 1] -= joints[..., 1].min()
    return joints


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)
def test_hold_feet_holds_feet_and_keeps_lengths(skeleton):
    joints = skater(skeleton)
    held, contacts = hold_feet(joints, skeleton, 20)
    assert contacts.count == 4
    assert contacts.before == pytest.approx(0.3, rel=0.05)
    assert contacts.after < 0.03
    assert contacts.largest < 0.2
    np.testing.assert_allclose(*(physics_lengths(body, skeleton) for body in (held, joints)), atol=2e-3)
    legs = [joint for side in ("left", "right") for joint in range(len(skeleton)) if is_leg(skeleton, joint, side)]
    others = [joint for joint in range(len(skeleton)) if joint not in legs]
    np.testing.assert_array_equal(held[:, others], joints[:, others])
    np.testing.assert_allclose(held[30], joints[30], atol=1e-9)  # the middle of the flight
    steps = np.linalg.norm(np.diff(held, axis=0), axis=-1).max()
    assert steps < np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() + 0.05  # corrections fade
    assert "4 contacts of feet held" in str(contacts)


def is_leg(skeleton: Skeleton, joint: int, side: str) -> bool:
    return any(skeleton.joints[joint] == f"{side}_{part}" for part in ("knee", "ankle", "midfoot", "foot", "toe"))


def physics_lengths(joints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    return skeleton.lengths_of(torch.from_numpy(joints)).numpy()


def test_hold_feet_bends_knees_forward():
    held, _ = hold_feet(skater(), HUMANML3D, 20)
    hip, knee, ankle = (held[:, HUMANML3D.joints.index(f"left_{part}")] for part in ("hip", "knee", "ankle"))
    assert ((knee - (hip + ankle) / 2)[:, 2] > 0.05).all()


@pytest.mark.parametrize("joints", [dancer(1), dancer(2), np.zeros((5, 22, 3)), 3 + dancer(60)])
def test_hold_feet_of_motions_without_contacts_changes_little(joints):
    held, contacts = hold_feet(joints, HUMANML3D, 20)
    assert np.isfinite(held).all()
    if not contacts.count:
        np.testing.assert_array_equal(held, joints)
        assert "no foot touches the floor" in str(contacts)


def test_hold_feet_reduces_skating_of_noisy_motions():
    noisy = wobbled(skater(), 0.01)
    held, contacts = hold_feet(noisy, HUMANML3D, 20)
    assert contacts.after < 0.2 * contacts.before
    assert physics.skating(held, HUMANML3D) <= physics.skating(noisy, HUMANML3D)


def test_lock_feet_is_off_by_default_and_holds_in_files(tmp_path, capsys):
    np.save(tmp_path / "a.npy", wobbled(skater(), 0.003))
    toe, speeds = "left_foot", {}
    for name, options in (("plain", []), ("held", ["--lock-feet"])):
        out = tmp_path / f"{name}.bvh"
        assert main(["convert", str(tmp_path / "a.npy"), str(out), *options]) == 0
        steps = np.diff(joints_of(out)[toe][2:18, [0, 2]], axis=0)
        speeds[name] = np.linalg.norm(steps, axis=1).mean() * 20
        assert ("contacts of feet held" in capsys.readouterr().out) == bool(options)
    assert speeds["plain"] > 0.25
    assert speeds["held"] < 0.02
    save_motion(tmp_path / "b.npy", skater(), lock_feet=True)
    assert np.abs(np.diff(np.load(tmp_path / "b.npy")[2:18, HUMANML3D.left_foot[1]], axis=0)).max() < 0.005

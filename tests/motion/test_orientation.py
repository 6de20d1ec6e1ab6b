"""The examination of a body: silent on sound clips, and one fault with the right value for each thing that is wrong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from adaqf_train.motion.features import encode
from adaqf_train.motion.orientation import (
    LEG,
    UPS,
    Fault,
    check_frame_time,
    examine,
    handedness,
    leg_length,
    looks_normalised,
    turned,
    upwards,
)
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from adaqf_train.procedural import generate
from tests.helpers import kit_body

CLIPS = [clip.joints.astype(np.float64) for clip in generate(12, seed=5)]
WALK = CLIPS[0]


def found(joints: np.ndarray, kind: str, **options) -> Fault | None:
    return next((fault for fault in examine(joints, **options) if fault.kind == kind), None)


def turned_from(joints: np.ndarray, up: str) -> np.ndarray:
    """The same motion in a file whose axis `up` points up."""
    return joints @ turned(np.eye(3), up).T


def from_rest(joints: np.ndarray, fade: int, held: int = 0) -> np.ndarray:
    """The clip after a T-pose that is held, then faded into the motion."""
    pose = np.array(HUMANML3D.rest_directions, float)
    for joint in (18, 19, 20, 21):
        pose[joint] = [1 if joint % 2 == 0 else -1, 0, 0]
    rest = np.zeros((22, 3))
    for joint in range(1, 22):
        rest[joint] = rest[HUMANML3D.parents[joint]] + pose[joint] * HUMANML3D.bone_lengths[joint - 1]
    rest += joints[0, 0]
    share = (np.arange(fade) / max(fade, 1))[:, None, None]
    return np.concatenate([np.repeat(rest[None], held, 0), (1 - share) * rest + share * joints[0], joints])


def test_examine_finds_nothing_in_sound_clips():
    for joints in CLIPS:
        assert examine(joints) == []
        assert handedness(joints) > 0.5
        assert upwards(joints)[0] == "y"
    assert not [fault for fault in examine(kit_body(60), skeleton=KIT) if fault.level == "error"]


@pytest.mark.parametrize("up", UPS)
def test_turned_undoes_any_up_axis_without_mirroring(up):
    lying = turned_from(WALK, up)
    np.testing.assert_allclose(turned(lying, up), WALK, atol=1e-12)
    assert np.linalg.det(turned(np.eye(3), up)) == pytest.approx(1)
    assert upwards(lying)[0] == up
    assert handedness(lying) == pytest.approx(handedness(WALK))


@pytest.mark.parametrize("up", [up for up in UPS if up != "y"])
def test_examine_names_the_axis_that_points_up(up):
    for joints in CLIPS:
        fault = found(turned_from(joints, up), "up")
        assert (fault.level, fault.value) == ("error", up)
        assert f"--up {up}" in fault.remedy
        assert found(turned_from(joints, up), "up", up="y") is None  # the user knows better
        assert found(turned_from(joints, up), "floating") is None


def test_examine_finds_exchanged_sides_and_mirrored_axes():
    for joints in CLIPS:
        exchanged = joints[:, list(HUMANML3D.mirrored)]
        for wrong in (exchanged, joints * [-1, 1, 1], joints * [1, 1, -1]):
            assert found(wrong, "mirrored").level == "error"
            assert handedness(wrong) < -0.5
        assert found(exchanged * [-1, 1, 1], "mirrored") is None  # a proper mirror image


@pytest.mark.parametrize(
    ("scale", "unit", "factor"),
    [
        (1000, "millimetres", 0.001),
        (100, "centimetres", 0.01),
        (1 / 0.0254, "inches", 0.0254),
        (640, "KIT-ML's units", 1 / 640),
    ],
)
def test_examine_names_the_unit_and_the_factor(scale, unit, factor):
    fault = found(WALK * scale, "unit")
    assert unit in fault.what
    assert fault.value == pytest.approx(factor, rel=2e-3)
    assert found(WALK * scale, "unit", any_unit=True) is None
    assert not [f for f in examine(WALK * scale) if f.kind != "unit"]  # nothing else depends on the unit
    assert found(WALK * scale * fault.value, "unit") is None


def test_examine_gives_a_factor_for_giants_and_for_kits_bodies():
    fault = found(WALK * 2.5, "unit")
    assert fault.value == pytest.approx(LEG / (2.5 * leg_length(WALK)), rel=0.01)
    own = kit_body(30)
    assert found(own, "unit", skeleton=KIT) is None
    millimetres = found(own / 640 * 1000, "unit", skeleton=KIT)
    assert "millimetres" in millimetres.what
    assert millimetres.value == pytest.approx(0.64)
    assert found(own / 640, "unit", skeleton=KIT).value == pytest.approx(640)


@pytest.mark.parametrize(
    ("fade", "held", "fps"),
    [(1, 0, 20), (1, 4, 20), (3, 0, 30), (5, 0, 30), (5, 0, 120), (9, 0, 60), (10, 0, 20), (12, 3, 30), (30, 0, 60)],
)
def test_examine_counts_the_frames_of_a_rest_pose(fade, held, fps):
    for joints in CLIPS[:6]:
        fault = found(from_rest(joints, fade, held), "start", fps=fps)
        assert fault.level == "error"
        assert fault.value == fade + held
        assert f"--skip {fade + held}" in fault.remedy
        assert found(from_rest(joints, fade, held), "start", fps=fps, skip=0) is None
        assert found(from_rest(joints, fade, held)[fade + held :], "start", fps=fps) is None


def test_examine_accepts_people_who_lower_their_arms():
    """They begin and end slowly; a fade begins at full speed."""
    for joints in CLIPS[:6]:
        lowered = from_rest(joints, 20)
        share = np.arange(20)[:, None, None] / 20
        lowered[:20] = lowered[0] + (3 * share**2 - 2 * share**3) * (joints[0] - lowered[0])
        assert found(lowered, "start", fps=20) is None


def test_examine_warns_of_a_rest_pose_after_the_skipped_frames():
    """The advice counts from the start of the file."""
    joints = from_rest(WALK, 5)
    fault = found(joints[1:], "start", fps=30, skip=1)
    assert (fault.level, fault.value) == ("warning", 5)
    assert "Give --skip 5" in fault.remedy
    assert found(joints[5:], "start", fps=30, skip=5) is None
    assert "--skip 0 to keep it." in found(from_rest(WALK, 1), "start").remedy


def test_examine_warns_of_jumps_and_of_feet_off_the_floor():
    jumping = WALK.copy()
    jumping[30:] += [0.5, 0, 0.3]
    fault = found(jumping, "jump")
    assert (fault.level, fault.value) == ("warning", 30)
    sinking = WALK.copy()
    sinking[7] -= [0, 0.09, 0]
    fault = found(sinking, "floating")
    assert fault.level == "warning"
    assert "frame 7" in fault.remedy
    assert found(WALK - [0, 3, 0], "floating") is None  # the floor may lie anywhere


def test_examine_warns_of_implausible_speeds():
    waving = WALK.copy()
    times = np.arange(len(waving)) / 20
    waving[:, [18, 20]] += 0.3 * np.sin(2 * np.pi * times)[:, None, None]
    assert found(waving, "speed") is None
    slow = WALK[:1].repeat(200, 0)
    slow[:, [18, 20]] += 0.3 * np.sin(2 * np.pi * np.arange(200) / 20 / 5)[:, None, None]
    assert "slower" in found(slow, "speed").what
    fast = WALK[:1].repeat(200, 0)
    fast[:, [18, 20]] += 0.3 * np.sin(2 * np.pi * np.arange(200) / 20 * 4)[:, None, None]
    assert "faster" in found(fast, "speed").what


def test_examine_reports_what_cannot_be_measured():
    holes = WALK.copy()
    holes[9, 3] = np.nan
    assert [(f.kind, f.value) for f in examine(holes)] == [("finite", 9)]
    for empty in (np.zeros((50, 22, 3)), np.zeros((0, 22, 3))):
        assert [f.kind for f in examine(empty)] == ["collapsed"]
    for frames in (1, 2, 5):
        assert examine(WALK[:frames]) == []


@pytest.mark.parametrize("joints", [WALK, kit_body(60)])
def test_looks_normalised_recognises_only_normalised_features(joints):
    vectors = encode(joints)
    assert not looks_normalised(vectors)
    assert looks_normalised((vectors - vectors.mean(0)) / np.maximum(vectors.std(0), 0.1))
    assert not looks_normalised(np.zeros_like(vectors))
    noisy = vectors + np.random.default_rng(0).normal(0, 0.02, vectors.shape)
    assert not looks_normalised(noisy)


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (1 / 30, None),
        (0.5, None),
        (1 / 240, None),
        (33.3333, "--fps 30 if it is milliseconds"),
        (30, "--fps 30 if it is frames per second"),
        (120, "--fps 120 if it is frames per second"),
        (8.333, "--fps 120 if it is milliseconds"),
        (1e-6, "--fps"),
    ],
)
def test_check_frame_time_names_the_rate_that_is_meant(seconds, says):
    fault = check_frame_time(seconds)
    assert fault is None if says is None else says in fault


@pytest.mark.data
def test_examine_finds_nothing_in_shared_captures(shared):
    with np.load(shared("bandai-namco") / "test.npz") as pack:
        joints, bounds = pack["positions"] * float(pack["scale"]), pack["offsets"]
        clips = [joints[a:b] for a, b in itertools.pairwise(bounds)]
    for path in (shared("humanml3d-samples") / "new_joints").glob("*.npy"):
        clips.append(np.load(path))
    for clip in clips:
        assert examine(clip) == []

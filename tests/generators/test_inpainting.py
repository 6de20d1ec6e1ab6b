"""Editing: what is kept comes back exactly, and what is made anew depends on it and on the prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train.errors import ConfigError
from adaqf_train.generators.inpainting import kept_features, known_features
from adaqf_train.motion.features import SLICES, decode, encode
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.helpers import FLOAT32, deviation

PROMPT = "a person waves"


@pytest.fixture
def motion(generator) -> np.ndarray:
    return generator.generate(["a person walks forward"], seconds=2.0, seed=7, output="features")[0]


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT])
def test_the_two_halves_of_the_body_are_all_of_it(skeleton):
    upper, lower = (kept_features(part, skeleton, 3) for part in ("upper_body", "lower_body"))
    assert (upper ^ lower).all()
    assert upper.any()


def test_the_lower_body_is_the_root_the_legs_and_their_contacts():
    kept = kept_features("lower_body", HUMANML3D, 1)[0]
    for group in (SLICES.root_rot_velocity, SLICES.root_linear_velocity, SLICES.root_height, SLICES.contacts):
        assert kept[group].all()
    names = [HUMANML3D.joints[i + 1] for i, k in enumerate(kept[SLICES.positions].view(-1, 3).all(dim=-1)) if k]
    sides = [f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "foot") for side in ("left", "right")]
    assert sorted(names) == sorted(sides)
    assert kept[SLICES.rotations].sum() == 8 * 6
    assert kept[SLICES.velocities].sum() == 9 * 3  # with the root


@pytest.mark.parametrize("keep", ["upper_body", "lower_body", slice(0, 12), [slice(0, 8), slice(-8, None)]])
@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++"])
def test_what_is_kept_comes_back_and_the_rest_follows_the_prompt(generator, motion, keep, scheduler):
    options = {"seed": 1, "steps": 2, "scheduler": scheduler, "output": "features"}
    edited = generator.edit(motion, PROMPT, keep, **options)[0]
    kept = kept_features(keep, HUMANML3D, len(motion)).numpy()
    assert deviation(edited[kept], motion[kept]) < FLOAT32
    assert np.abs(edited - motion)[~kept].max() > 0.1
    other = generator.edit(motion, "a person turns left and then bows deeply", keep, **options)[0]
    assert np.abs(edited - other)[~kept].max() > 1e-3
    plain = generator.generate([PROMPT], seconds=2.0, **options)[0]
    assert np.abs(edited - plain)[~kept].max() > 1e-3  # what is known shapes what is made


def test_joints_and_features_of_a_motion_are_the_same_to_an_edit(generator, motion):
    joints = generator.edit(decode(motion), PROMPT, "upper_body", num_samples=2)
    assert [m.shape for m in joints] == [(36, 22, 3)] * 2  # 40 frames of joints have 39 steps: nine units
    assert np.abs(joints[0] - joints[1]).max() > 1e-3
    features = encode(decode(motion))[:36]
    again = generator.edit(features, PROMPT, "upper_body")[0]
    np.testing.assert_allclose(joints[0], again, atol=1e-4)


def test_joints_are_metres_whatever_the_skeletons_unit():
    body = np.zeros((9, 21, 3), np.float32)
    for joint, parent in enumerate(KIT.parents):
        if parent >= 0:
            body[:, joint] = body[:, parent] + 0.4 * np.array(KIT.rest_directions[joint])
    torch.testing.assert_close(
        known_features(body, KIT, 4), torch.from_numpy(encode(640 * body))[:8], atol=1e-3, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("head", "keep must be 'upper_body'"),
        (3, "keep must be"),
        ([], "some of the 40 frames and not all"),
        ([3], "keep must be"),
        (np.array([1, 2]), "keep must be"),
        (slice(0.5, 3.0), "of whole numbers"),
        (slice(None, None, -1), "steps of at least 1"),
        (slice(0, 40), "not all"),
        (slice(50, 60), "some of the 40"),
        (slice(0, 10**30), "not all"),
    ],
)
def test_what_cannot_be_kept_is_named(generator, motion, keep, message):
    with pytest.raises(ConfigError, match=message):
        generator.edit(motion, PROMPT, keep)


@pytest.mark.parametrize("shape", [(40, 21, 3), (40, 251), (40,)])
def test_motions_of_other_shapes_are_refused(generator, shape):
    with pytest.raises(ConfigError, match="got shape"):
        generator.edit(np.zeros(shape, np.float32), PROMPT, "upper_body")


@pytest.mark.parametrize("motion", ["walk.npy", [[1.0], [2.0, 3.0]], {}])
def test_what_is_no_array_is_no_motion(generator, motion):
    with pytest.raises(ConfigError, match=f"motion must be an array .* got {type(motion).__name__}"):
        generator.edit(motion, PROMPT, "upper_body")


@pytest.mark.parametrize("frames", [0, 2, 204])
def test_motions_that_are_too_short_or_too_long_are_refused(generator, frames):
    with pytest.raises(ConfigError, match=f"features of 4 to 196 frames.*got {frames}"):
        generator.edit(np.zeros((frames, 263), np.float32), PROMPT, "upper_body")


def test_holes_in_a_motion_and_segments_in_an_edit_are_refused(generator, motion):
    motion[3, 3] = np.nan
    with pytest.raises(ConfigError, match="finite"):
        generator.edit(motion, PROMPT, "upper_body")
    with pytest.raises(ConfigError, match="without segments"):
        generator.edit(motion[4:], "walk | sit", "upper_body")

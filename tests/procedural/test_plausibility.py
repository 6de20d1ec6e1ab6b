"""Accelerations, depth and height: figures of bodies whose faults are known."""

from __future__ import annotations

import numpy as np
import pytest

from adaqf_train.motion.physics import acceleration_distance, floating, penetration
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from adaqf_train.procedural import generate


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [clip.joints for clip in generate(12, seed=3)]


def test_acceleration_distance_grows_with_trembling_and_freezing(clips):
    rng = np.random.default_rng(0)
    same = acceleration_distance(clips, clips, HUMANML3D)
    assert same == {"acceleration": 0.0, "jerk": 0.0}
    apart = [
        acceleration_distance(clips, [clip + s * rng.standard_normal(clip.shape) for clip in clips], HUMANML3D)
        for s in (0.001, 0.01, 0.1)
    ]
    for name in same:
        assert 0 < apart[0][name] < apart[1][name] < apart[2][name]
    frozen = acceleration_distance(clips, [np.repeat(clip[:1], 40, axis=0) for clip in clips], HUMANML3D)
    real = np.concatenate([np.linalg.norm(np.diff(c, 2, axis=0), axis=-1).ravel() for c in clips]) * 20**2
    assert frozen["acceleration"] == pytest.approx(real.mean())


def test_penetration_and_floating_are_in_metres(clips):
    clip = clips[0] - [0, clips[0][..., 1].min(), 0]
    assert penetration(clip, HUMANML3D) == 0
    assert penetration(clip - [0, 3, 0], HUMANML3D) == pytest.approx(3 - clip[..., 1].min(axis=1).mean())
    assert floating(np.add(clip, [0, 1, 0]), HUMANML3D) == pytest.approx(0.95 + clip[..., 1].min(axis=1).mean())
    body = np.zeros((5, 21, 3)) - [0, 64, 0]
    assert penetration(body, KIT) == pytest.approx(0.1)


def test_acceleration_distance_refuses_short_clips(clips):
    with pytest.raises(ValueError, match="at least 4 frames"):
        acceleration_distance([clips[0][:3]], clips, HUMANML3D)

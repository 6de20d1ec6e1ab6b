"""The metrics: equal to their definitions, and immune to the traps of the field's implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from adaqf_train.evaluation import metrics
from adaqf_train.motion.skeleton import HUMANML3D, KIT

TOES = (10, 11)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_fid_is_the_frechet_distance(rng):
    a, b = rng.normal(size=(300, 6)), rng.normal(0.5, 1.5, size=(400, 6))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert metrics.fid(a, b) == pytest.approx(expected, rel=1e-6)
    assert metrics.fid(a, a) == pytest.approx(0, abs=1e-9)
    assert metrics.fid(a, a + 2.0) == pytest.approx(6 * 4.0, rel=1e-6)
    assert metrics.fid(a, b) == pytest.approx(metrics.fid(b, a), rel=1e-9)


def test_fid_of_few_samples_is_finite(rng):
    few = rng.normal(size=(4, 16))  # covariance of rank 3: sqrtm would return complex rounding errors
    assert 0 <= metrics.fid(few, few) < 1e-6
    assert metrics.fid(few, few + 1) == pytest.approx(16, rel=1e-3)


def test_r_precision_of_perfect_shuffled_and_random_pairs(rng):
    text = rng.normal(size=(96, 8))
    assert metrics.r_precision(text, text).tolist() == [1, 1, 1]
    shuffled = np.concatenate([np.roll(text[i : i + 32], 1, axis=0) for i in range(0, 96, 32)])
    assert metrics.r_precision(text, shuffled)[0] == 0
    chance = metrics.r_precision(rng.normal(size=(3200, 8)), rng.normal(size=(3200, 8)))
    assert chance == pytest.approx(np.array([1, 2, 3]) / 32, abs=0.02)


def test_r_precision_searches_among_motions_for_each_text():
    """Rows are texts: two texts near motion 0 make one miss, though each motion finds its own text first."""
    text, motion = np.array([[0.0], [0.4]]), np.array([[0.1], [1.0]])
    assert metrics.r_precision(text, motion, pool=2, top=1)[0] == 0.5
    assert metrics.r_precision(motion, text, pool=2, top=1)[0] == 1.0


def test_collapsed_embeddings_score_chance():
    """Counting only strictly nearer motions would give ties full marks."""
    same = np.ones((64, 8))
    assert metrics.r_precision(same, same) == pytest.approx(np.array([1, 2, 3]) / 32)


def test_the_last_incomplete_pool_is_dropped(rng):
    text = rng.normal(size=(40, 8))
    motion = text.copy()
    motion[32:] = -text[32:]
    assert metrics.r_precision(text, motion)[0] == 1


def test_distances_of_identical_rows_are_zero_not_nan():
    rows = (np.random.default_rng(1).normal(size=(50, 32)) * 1e3).astype(np.float32)
    found = metrics.distances(rows, rows)
    assert np.isfinite(found).all()
    assert np.abs(np.diag(found)).max() < 10  # float32 cancellation at this scale, no NaN
    exact = np.linalg.norm(rows[:, None].astype(float) - rows[None], axis=-1)
    assert np.abs(found - exact).max() < 10


def test_mm_dist_and_diversity(rng):
    text = rng.normal(size=(200, 4))
    assert metrics.mm_dist(text, text + np.array([3, 0, 0, 4])) == pytest.approx(5)
    same = np.ones((200, 4))
    assert metrics.diversity(same, 100, np.random.default_rng(0)) == 0
    two = np.repeat([[0.0], [1.0]], 100, axis=0)
    assert metrics.diversity(two, 100, np.random.default_rng(0)) == pytest.approx(0.5, abs=0.15)
    assert metrics.diversity(text, 50, np.random.default_rng(7)) == metrics.diversity(
        text, 50, np.random.default_rng(7)
    )


def standing(skeleton=HUMANML3D, frames: int = 41) -> np.ndarray:
    joints = np.zeros((frames, len(skeleton), 3))
    joints[:, :, 1] = 1.0 * skeleton.units_per_metre
    for toe in (skeleton.left_foot[1], skeleton.right_foot[1]):
        joints[:, toe, 1] = 0.02 * skeleton.units_per_metre
    return joints


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT])
def test_skating_counts_frames_in_which_a_low_toe_travels(skeleton):
    joints = standing(skeleton)
    toe = skeleton.left_foot[1]
    travel = np.zeros(41)
    travel[10:31] = np.linspace(0, 1, 21)  # 20 frame pairs at 1 m/s (20 fps)
    travel[31:] = 1
    sliding = joints.copy()
    sliding[:, toe, 0] += travel * skeleton.units_per_metre * 20 / skeleton.fps
    assert metrics.skating(joints, skeleton) == 0
    assert metrics.skating(sliding, skeleton) == pytest.approx(20 / 40, abs=0.06)
    lifted = sliding.copy()
    lifted[:, toe, 1] += 0.2 * skeleton.units_per_metre
    assert metrics.skating(lifted, skeleton) == 0
    both = sliding.copy()
    other = skeleton.right_foot[1]
    both[:, other, 0] += travel * skeleton.units_per_metre * 20 / skeleton.fps
    assert metrics.skating(both, skeleton) == metrics.skating(sliding, skeleton)  # either foot counts once


def test_skating_ignores_single_jumps_of_one_frame():
    joints = standing()
    joints[20:, TOES[0], 0] += 0.05  # 1 m/s in one frame, 0.2 m/s on average over five
    assert metrics.skating(joints, HUMANML3D) == 0


def test_skating_needs_the_clip_cut_to_its_length():
    """Decoded padding slides: 60 clean frames and 136 of padding would look like skating."""
    clean = standing(frames=60)
    padding = np.repeat(clean[-1:], 136, axis=0)
    padding[:, :, 0] += np.arange(1, 137)[:, None] * 0.1
    padded = np.concatenate([clean, padding])
    assert metrics.skating(clean, HUMANML3D) == 0
    assert metrics.skating(padded, HUMANML3D) > 0.6


def test_bad_embeddings_are_refused(rng):
    good = rng.normal(size=(40, 4))
    holes = good.copy()
    holes[5, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in row 5"):
        metrics.fid(good, holes)
    with pytest.raises(ValueError, match="at least 2 rows"):
        metrics.fid(good[:1], good)
    with pytest.raises(ValueError, match="no pairs"):
        metrics.mm_dist(good, good[:30])
    with pytest.raises(ValueError, match="pool <= rows"):
        metrics.r_precision(good[:20], good[:20])
    with pytest.raises(ValueError, match="1 to 20 pairs"):
        metrics.diversity(good, 21, rng)


def test_multimodality_is_the_distance_of_takes_of_one_text(rng):
    motion = rng.standard_normal((6, 8, 4))
    draw = np.random.default_rng(5)
    first, second = (draw.choice(8, 3, replace=False) for _ in range(2))
    expected = np.mean(
        [np.linalg.norm(takes[i] - takes[j]) for takes in motion for i, j in zip(first, second, strict=True)]
    )
    assert metrics.multimodality(motion, 3, np.random.default_rng(5)) == pytest.approx(expected, abs=1e-12)
    assert metrics.multimodality(np.repeat(motion[:, :1], 8, axis=1), 3, rng) == 0
    for wrong, pairs in ((motion[0], 3), (motion, 9), (motion, 0), (np.where(motion > 2, np.nan, motion), 3)):
        with pytest.raises(ValueError, match=r"MultiModality|NaN"):
            metrics.multimodality(wrong, pairs, rng)

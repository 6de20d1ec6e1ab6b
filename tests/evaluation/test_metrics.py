"""The metrics: equal to their definitions, and immune to the traps of the field's implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from adaqf_train.evaluation import metrics
from adaqf_train.motion.features import Slices, decode
from adaqf_train.motion.skeleton import HUMANML3D, KIT

HUMANML3D_SLICES = Slices.of(HUMANML3D)
TOES = (10, 11)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """By the definition, with covariances summed by hand and the square root of their product from its eigenvalues."""

    def moments(rows):
        mean = sum(rows) / len(rows)
        return mean, sum(np.outer(row - mean, row - mean) for row in rows) / (len(rows) - 1)

    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).astype(complex)).sum().real
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root)


def test_fid_is_the_frechet_distance(rng):
    a, b = rng.normal(size=(300, 6)), rng.normal(0.5, 1.5, size=(400, 6))
    assert metrics.fid(a, b) == pytest.approx(frechet(a, b), abs=1e-9)
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert metrics.fid(a, b) == pytest.approx(expected, abs=1e-9)
    assert metrics.fid(a, a) <= 1e-6
    assert metrics.fid(a, a + 2.0) == pytest.approx(6 * 4.0, abs=1e-9)
    assert metrics.fid(a, b) == pytest.approx(metrics.fid(b, a), abs=1e-9)
    assert abs(metrics.fid(a, b) - frechet(a, b * 1.001)) > 1e-3  # control: the oracle tells sets apart


def test_fid_of_wide_embeddings_with_themselves_is_zero(rng):
    wide = rng.normal(size=(700, 512)) * np.geomspace(1e-4, 10, 512)  # official width, badly conditioned
    assert metrics.fid(wide, wide) <= 1e-6
    assert metrics.fid(wide.astype(np.float32), wide.astype(np.float32)) <= 1e-6


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


def test_r_precision_equals_a_search_by_hand(rng):
    text, motion = rng.normal(size=(150, 5)), rng.normal(size=(150, 5))
    motion += text
    hits = np.zeros(4)
    for first in range(0, 128, 32):
        for i in range(first, first + 32):
            gaps = [(np.sqrt(((text[i] - motion[j]) ** 2).sum()), j) for j in range(first, first + 32)]
            place = [j for _, j in sorted(gaps)].index(i)
            hits[place:] += 1
    assert metrics.r_precision(text, motion, pool=32, top=4).tolist() == (hits / 128).tolist()
    assert 0.1 < hits[0] / 128 < 0.9
    swapped = text[::-1].copy()
    assert metrics.r_precision(swapped, motion, top=4)[0] < 0.1 < hits[0] / 128


def test_mm_dist_and_diversity_equal_loops(rng):
    text, motion = rng.normal(size=(90, 7)), rng.normal(size=(90, 7))
    by_hand = sum(
        np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True))) for a, b in zip(text, motion, strict=True)
    )
    assert metrics.mm_dist(text, motion) == pytest.approx(by_hand / 90, abs=1e-9)
    order = np.random.default_rng(3).permutation(90)
    pairs = [np.linalg.norm(motion[i] - motion[j]) for i, j in zip(order[:40], order[40:80], strict=True)]
    assert metrics.diversity(motion, 40, np.random.default_rng(3)) == pytest.approx(sum(pairs) / 40, abs=1e-9)
    assert len({*order[:80].tolist()}) == 80  # no motion is drawn twice


def test_r_precision_searches_among_motions_for_each_text():
    """Rows are texts: two texts near motion 0 make one miss, though each motion finds its own text first."""
    text, motion = np.array([[0.0], [0.4]]), np.array([[0.1], [1.0]])
    assert metrics.r_precision(text, motion, pool=2, top=1)[0] == 0.5
    assert metrics.r_precision(motion, text, pool=2, top=1)[0] == 1.0


def test_r_precision_of_collapsed_embeddings_is_chance():
    """Counting only strictly nearer motions would give ties full marks."""
    same = np.ones((64, 8))
    assert metrics.r_precision(same, same) == pytest.approx(np.array([1, 2, 3]) / 32)


def test_r_precision_drops_the_last_incomplete_pool(rng):
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


def test_skating_unmasked_counts_padding_as_gmd_does(rng):
    """Padding decodes to the mean pose, which slides along at the mean speed: here 0.6 m/s on flat feet."""
    features = HUMANML3D_SLICES
    standing_still = np.zeros(263, np.float32)
    standing_still[features.root_height] = 0.9
    standing_still[features.rotations] = np.tile([1, 0, 0, 0, 1, 0], 21)
    sliding = standing_still.copy()
    sliding[features.root_linear_velocity.stop - 1] = 0.03  # metres a frame
    clips = [np.repeat(standing_still[None], frames, axis=0) for frames in (60, 80)]
    assert np.mean([metrics.skating(decode(clip), HUMANML3D) for clip in clips]) == 0
    assert metrics.skating_unmasked(clips, standing_still, 196) == 0
    found = metrics.skating_unmasked(clips, sliding, 196)
    assert found == pytest.approx(np.mean([136, 116]) / 195, abs=0.03)  # less what the mean speed's window cuts
    assert metrics.skating_unmasked(clips, sliding, 60) == 0  # nothing to pad


def test_skating_needs_the_clip_cut_to_its_length():
    """Decoded padding slides: 60 clean frames and 136 of padding would look like skating."""
    clean = standing(frames=60)
    padding = np.repeat(clean[-1:], 136, axis=0)
    padding[:, :, 0] += np.arange(1, 137)[:, None] * 0.1
    padded = np.concatenate([clean, padding])
    assert metrics.skating(clean, HUMANML3D) == 0
    assert metrics.skating(padded, HUMANML3D) > 0.6


def test_metrics_refuse_bad_embeddings(rng):
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


def test_multimodality_is_the_distance_between_motions_of_one_text(rng):
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


@pytest.mark.parametrize("pool", [7, 22, 31, 32, 50])
def test_distances_of_equal_rows_tie_in_any_pool(pool):
    """A matrix product sums its edges in another order: rows that are equal must get equal distances all the same."""
    rng = np.random.default_rng(pool)
    text, motion = rng.normal(size=(pool, 64)), np.tile(rng.normal(size=64), (pool, 1))
    assert metrics.r_precision(text, motion, pool) == pytest.approx(np.arange(1, 4) / pool, abs=1e-12)
    found = metrics.distances(text, motion)
    assert (found == found[:, :1]).all()


@pytest.mark.parametrize(("samples", "width"), [(100, 512), (10, 16), (40, 64), (64, 64)])
def test_fid_with_fewer_samples_than_dimensions_is_exact(samples, width):
    """Of sets whose distance is known: moved by a constant, and spread to twice the size."""
    rows = np.random.default_rng(0).normal(size=(samples, width))
    assert metrics.fid(rows, rows + 0.5) == pytest.approx(0.25 * width, rel=1e-11)
    spread = np.square(rows - rows.mean(axis=0)).sum() / (samples - 1)
    assert metrics.fid(rows, 2 * rows) == pytest.approx(np.square(rows.mean(axis=0)).sum() + spread, rel=1e-11)
    assert metrics.fid(rows, rows) <= 1e-9
    with pytest.raises(ValueError, match="one width"):
        metrics.fid(rows, rows[:, :-1])


def test_fid_normalised_compares_directions(rng):
    a, b = rng.normal(size=(300, 6)), rng.normal(0.5, 1.5, size=(400, 6))
    unit_a, unit_b = (rows / np.sqrt((rows**2).sum(1))[:, None] for rows in (a, b))
    assert metrics.fid_normalised(a, b) == pytest.approx(frechet(unit_a, unit_b), abs=1e-9)
    assert metrics.fid_normalised(7 * a, 7 * b) == pytest.approx(metrics.fid_normalised(a, b))
    assert metrics.fid(7 * a, 7 * b) == pytest.approx(49 * metrics.fid(a, b))  # control: the raw one grows
    assert np.isfinite(metrics.fid_normalised(np.zeros((5, 3)), a[:, :3]))


def test_kid_is_the_unbiased_estimate_of_mmd(rng):
    a, b = rng.normal(size=(30, 5)), rng.normal(0.3, 1.2, size=(40, 5))

    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / 5 + 1) ** 3

    within = [
        sum(kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j)
        / (len(rows) * (len(rows) - 1))
        for rows in (a, b)
    ]
    across = sum(kernel(x, y) for x in a for y in b) / (len(a) * len(b))
    assert metrics.kid(a, b) == pytest.approx(sum(within) - 2 * across, rel=1e-9)
    biased = within[0] * 29 / 30 + within[1] * 39 / 40 - 2 * across  # control: the diagonal left in counts as zero
    assert abs(metrics.kid(a, b) - biased) > 1e-3
    many = rng.normal(size=(3000, 5))  # more rows than a block of the kernel matrix
    split = np.array_split(many, 3)
    assert metrics.kid(many, b) == pytest.approx(metrics.kid(np.concatenate(split[::-1]), b), rel=1e-9)


def test_unbiased_distances_do_not_depend_on_the_number_of_samples():
    """Two draws of one distribution: FID grows as samples get fewer, its extrapolation and KID stay around 0."""
    rng = np.random.default_rng(3)
    pairs = {n: [rng.normal(size=(2, n, 16)) for _ in range(40)] for n in (120, 480)}
    raw, ahead, kernel = (
        {n: np.array([measure(*pair) for pair in drawn]) for n, drawn in pairs.items()}
        for measure in (metrics.fid, lambda a, b: metrics.fid_infinity(a, b, np.random.default_rng(0)), metrics.kid)
    )
    assert raw[120].mean() > 3 * raw[480].mean() > 0.5
    for found in (ahead, kernel):
        for values in found.values():
            assert abs(values.mean()) < 4 * values.std(ddof=1) / np.sqrt(40) + 0.02
    assert abs(ahead[120].mean()) < raw[120].mean() / 10


def test_fid_infinity_is_the_line_through_its_sizes(rng):
    a, b = rng.normal(size=(200, 4)), rng.normal(0.5, 1.5, size=(160, 4))
    found = metrics.fid_infinity(a, b, np.random.default_rng(9))
    order_a, order_b = (lambda draw: (draw.permutation(200), draw.permutation(160)))(np.random.default_rng(9))
    quarters = frechet(a[order_a[:150]], b[order_b[:120]])
    halves = [frechet(a[order_a[i : i + 100]], b[order_b[j : j + 80]]) for i, j in ((0, 0), (100, 80))]
    slope, start = np.polyfit([1, 4 / 3, 2], [frechet(a, b), quarters, np.mean(halves)], 1)
    assert found == pytest.approx(start, abs=1e-9)
    assert slope > 0
    assert metrics.fid_infinity(a, b, np.random.default_rng(9), metrics.fid(a, b)) == found
    with pytest.raises(ValueError, match="at least 4 rows"):
        metrics.fid_infinity(a[:3], b, rng)

"""The vectorised representation against the one written out frame by frame, and what must hold of any motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from adaqf_train.motion import features
from adaqf_train.motion.features import SLICES, Slices, decode, encode, mirror
from adaqf_train.motion.skeleton import HUMANML3D, KIT, Skeleton
from tests.motion import reference

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)
# KIT-ML's units are 640 to the metre, so 1e-3 of them is a micrometre and a half.
TOLERANCE = {"humanml3d": 1e-9, "kit": 1e-3}


def articulated(skeleton: Skeleton, seed: int, frames: int = 60) -> np.ndarray:
    """A random body that bends every joint smoothly, walks and turns, once past 180 degrees: (frames, J, 3)."""
    rng = np.random.default_rng(seed)

    def smooth(*shape: int) -> np.ndarray:
        signal = gaussian_filter1d(rng.standard_normal((frames, *shape)), 6, axis=0, mode="wrap")
        return signal / signal.std()

    lengths = skeleton.units_per_metre * rng.uniform(0.1, 0.45, len(skeleton) - 1)
    directions = np.array(skeleton.rest_directions[1:], dtype=np.float64) + 0.45 * smooth(len(skeleton) - 1, 3)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    root = skeleton.units_per_metre * np.cumsum(0.03 * smooth(3), axis=0) * (1.0, 0.1, 1.0)
    pose = skeleton.pose_from_directions(*(torch.from_numpy(a) for a in (root, directions, lengths))).numpy()
    angle = np.linspace(0.4, 4.5, frames) + 0.2 * smooth()
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros(frames), np.ones(frames)
    turn = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1).reshape(frames, 1, 3, 3)
    around = pose[:, :1] * (1.0, 0.0, 1.0)
    still = (turn @ (pose - around)[..., None])[..., 0] + around
    still[frames // 2 : frames // 2 + 8] = still[frames // 2]  # feet that stand, so that some labels are 1
    return still


def largest(a: np.ndarray, b: np.ndarray, skeleton: Skeleton) -> dict[str, float]:
    """The largest difference in each group of features."""
    return {name: float(np.abs(a - b)[..., where].max()) for name, where in Slices.of(skeleton).groups().items()}


@SKELETONS
@pytest.mark.parametrize("seed", range(4))
def test_encode_equals_the_frame_by_frame_pipeline(skeleton, seed):
    joints = articulated(skeleton, seed)
    assert 0 < features.foot_contacts(torch.from_numpy(joints)).float().mean() < 1
    difference = largest(encode(joints), reference.encode(joints), skeleton)
    assert max(difference.values()) < TOLERANCE[skeleton.name], difference
    assert difference["contacts"] == 0


@SKELETONS
@pytest.mark.parametrize("seed", range(4))
def test_decode_equals_the_frame_by_frame_recovery(skeleton, seed):
    vectors = reference.encode(articulated(skeleton, seed))
    assert np.abs(decode(vectors) - reference.decode(vectors)).max() < TOLERANCE[skeleton.name]
    altered = vectors.copy()
    altered[:, Slices.of(skeleton).root_rot_velocity] *= -1  # control: the heading is integrated
    assert np.abs(decode(altered) - reference.decode(vectors)).max() > 0.1


@SKELETONS
@pytest.mark.parametrize(
    ("broken", "group"),
    [
        ({"swapped_hips": False}, "rotations"),
        ({"threshold": 0.3}, "contacts"),
        ({"smooth": False}, "root_rot_velocity"),
    ],
    ids=["hips the right way round", "another threshold", "no smoothing"],
)
def test_reference_with_one_rule_changed_differs(skeleton, broken, group):
    joints = articulated(skeleton, 0)
    if "threshold" in broken:
        broken = {"threshold": broken["threshold"] * skeleton.units_per_metre**2}
    assert largest(encode(joints), reference.encode(joints, **broken), skeleton)[group] > 0.01


@pytest.mark.data
@pytest.mark.parametrize("name", ["000000", "012314"])
def test_reference_equals_encode_on_official_clips(shared, name):
    folder = shared("humanml3d-samples")
    joints = np.load(folder / "new_joints" / f"{name}.npy").astype(np.float64)
    vectors = np.load(folder / "new_joint_vecs" / f"{name}.npy").astype(np.float64)
    assert np.abs(encode(joints) - reference.encode(joints)).max() < 1e-9
    assert np.abs(decode(vectors) - reference.decode(vectors)).max() < 1e-9
    assert np.abs(reference.decode(vectors) - joints).max() < 2e-6
    assert np.abs(reference.encode(joints, swapped_hips=False) - encode(joints)).max() > 0.01


@pytest.fixture(scope="module")
def captured(shared) -> list[np.ndarray]:
    """Random clips of real motion capture, as they were recorded."""
    with np.load(shared("bandai-namco") / "test.npz") as pack:
        positions, scale, offsets = pack["positions"], float(pack["scale"]), pack["offsets"]
    chosen = np.random.default_rng(7).choice(len(offsets) - 1, 12, replace=False)
    return [positions[offsets[i] : offsets[i + 1]].astype(np.float64) * scale for i in chosen]


@pytest.mark.data
def test_decode_inverts_encode_on_real_clips(captured):
    for joints in captured:
        vectors, canonical = encode(joints), features.canonicalise(joints)
        assert np.abs(decode(vectors) - canonical[:-1]).max() < 1e-6
        assert np.abs(decode(encode(joints + np.array([0.0, 0.3, 0.5]))) - canonical[:-1]).max() < 1e-6
        assert np.abs(decode(vectors) - canonical[1:]).max() > 1e-3  # control: frames are not interchangeable


@pytest.mark.data
def test_encode_inverts_decode_on_real_clips(captured):
    for joints in captured:
        vectors = encode(joints)
        again = encode(decode(vectors))
        difference = np.abs(again - vectors[:-1])
        # The frame that decoding loses takes part in the smoothed heading of the last 80 rows, and of no others.
        assert difference[: -features.SMOOTHING_RADIUS].max(initial=0) < 1e-6
        assert difference.max() < 0.1
        free = [SLICES.root_height, SLICES.contacts]
        assert max(difference[:, where].max() for where in free) < 1e-6
        assert np.abs(again[:, ::-1] - vectors[:-1]).max() > 0.1  # control: other columns


@pytest.mark.data
def test_encode_equals_the_frame_by_frame_pipeline_on_real_clips(captured):
    for joints in captured[:3]:
        assert np.abs(encode(joints) - reference.encode(joints)).max() < 1e-9


def test_decode_is_differentiable_in_every_feature_it_reads():
    for skeleton, where in ((HUMANML3D, SLICES), (KIT, Slices.of(KIT))):
        vectors = torch.from_numpy(reference.encode(articulated(skeleton, 1, frames=4)))
        vectors = vectors / skeleton.units_per_metre  # so that one step size suits all features
        read = torch.zeros(vectors.shape[1], dtype=torch.bool)
        for group in (where.root_rot_velocity, where.root_linear_velocity, where.root_height, where.positions):
            read[group] = True
        base = vectors.detach()

        def positions(values: torch.Tensor, base: torch.Tensor = base, read: torch.Tensor = read) -> torch.Tensor:
            return decode(torch.where(read, base.clone().masked_scatter(read.expand_as(base), values), base))

        assert torch.autograd.gradcheck(positions, base[:, read].clone().requires_grad_())


@SKELETONS
def test_mirror_equals_encoding_mirrored_joints(skeleton):
    canonical = features.canonicalise(articulated(skeleton, 2))
    seen = skeleton.mirror(torch.from_numpy(canonical)).numpy()
    vectors = encode(canonical, canonical=False)
    difference = largest(mirror(vectors), encode(seen, canonical=False), skeleton)
    assert max(difference.values()) < TOLERANCE[skeleton.name], difference
    assert np.abs(decode(mirror(vectors)) - seen[:-1]).max() < TOLERANCE[skeleton.name]
    assert np.abs(mirror(vectors) - vectors).max() > 0.1  # control


@SKELETONS
def test_mirror_twice_changes_nothing(skeleton):
    batch = np.stack([encode(articulated(skeleton, seed)) for seed in range(2)]).astype(np.float32)
    once = mirror(batch)
    assert once.dtype == batch.dtype
    assert once.shape == batch.shape
    np.testing.assert_array_equal(mirror(once), batch)
    assert isinstance(mirror(torch.from_numpy(batch)), torch.Tensor)

"""The motion representation: equal to the official files, invertible, and batched without changing anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train.motion import features
from adaqf_train.motion.features import SLICES, Slices, decode, encode
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from adaqf_train.procedural import generate
from tests.helpers import FLOAT32, deviation

OFFICIAL = ("000000", "012314")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [clip.joints.astype(np.float64) for clip in generate(8, seed=1)]


def official(shared, name: str) -> tuple[np.ndarray, np.ndarray]:
    folder = shared("humanml3d-samples")
    return np.load(folder / "new_joints" / f"{name}.npy"), np.load(folder / "new_joint_vecs" / f"{name}.npy")


def with_last_frame(joints: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The official joints lack the frame the last velocities lead to; it follows from them."""
    heading, _ = features.root_trajectory(torch.from_numpy(vectors.astype(np.float64)))
    velocity = torch.from_numpy(vectors[-1, SLICES.velocities].astype(np.float64)).reshape(22, 3)
    step = features.rotations.rotate(features.rotations.inverse(heading[-1])[None], velocity)
    return np.concatenate([joints, joints[-1:] + step.numpy()[None]])


@pytest.mark.data
@pytest.mark.parametrize("name", OFFICIAL)
def test_decode_equals_the_official_joints(shared, name):
    joints, vectors = official(shared, name)
    assert deviation(decode(vectors), joints) < FLOAT32  # sums of up to 199 float32 steps
    assert np.abs(decode(vectors[:, ::-1].copy()) - joints).max() > 0.1  # control: other columns


@pytest.mark.data
@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize("name", OFFICIAL)
def test_encode_equals_the_official_features(shared, name, canonical):
    joints, vectors = official(shared, name)
    encoded = encode(with_last_frame(joints.astype(np.float64), vectors), canonical=canonical)
    assert encoded.shape == vectors.shape
    assert np.abs(encoded - vectors).max() < 1e-5
    np.testing.assert_array_equal(encoded[:, SLICES.contacts], vectors[:, SLICES.contacts])


def test_slices_cover_the_features_in_order():
    for slices, width in ((SLICES, 263), (Slices.of(KIT), 251)):
        groups = list(slices.groups().values())
        assert [g.start for g in groups] == [0] + [g.stop for g in groups[:-1]]
        assert groups[-1].stop == width
    assert SLICES.positions == slice(4, 67)
    assert SLICES.contacts == slice(259, 263)


def test_decode_inverts_encode(clips):
    for joints in clips:
        canonical = features.canonicalise(joints)
        decoded = decode(encode(joints))
        assert decoded.shape == (len(joints) - 1, 22, 3)
        assert np.abs(decoded - canonical[:-1]).max() < 1e-6
        assert np.abs(decoded - canonical[1:]).max() > 1e-3  # control: the frames are not interchangeable


def test_encode_is_idempotent_on_canonical_joints(clips):
    for joints in clips:
        once = features.canonicalise(joints)
        assert np.abs(features.canonicalise(once) - once).max() < 1e-9
        assert np.abs(encode(once) - encode(once, canonical=False)).max() < 1e-9


def test_encode_ignores_place_and_heading(clips):
    angle = 1.1
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    for joints in clips:
        moved = joints @ turn.T + np.array([3.0, 0.4, -7.0])
        assert np.abs(encode(moved) - encode(joints)).max() < 1e-6
        assert np.abs(encode(moved, canonical=False) - encode(joints)).max() > 0.1  # control


def test_canonicalise_gives_standard_bones_on_the_floor(clips):
    for joints in clips:
        scaled = features.canonicalise(1.3 * joints + 0.2)
        lengths = HUMANML3D.lengths_of(torch.from_numpy(scaled)).numpy()
        assert np.abs(lengths - np.array(HUMANML3D.bone_lengths)).max() < 1e-9
        assert abs(scaled[..., 1].min()) < 1e-12
        assert np.abs(scaled[0, 0, [0, 2]]).max() < 1e-12


def test_encode_and_decode_treat_batches_as_single_clips(clips):
    length = min(map(len, clips))
    batch = np.stack([joints[:length] for joints in clips]).reshape(2, 4, length, 22, 3)
    encoded = encode(batch)
    decoded = decode(encoded)
    for index in np.ndindex(2, 4):
        assert np.abs(encoded[index] - encode(batch[index])).max() < 1e-12
        assert np.abs(decoded[index] - decode(encoded[index])).max() < 1e-12


def test_encode_and_decode_keep_kind_and_dtype(clips):
    single = clips[0].astype(np.float32)
    assert encode(single).dtype == np.float32
    tensor = torch.from_numpy(single)
    assert isinstance(encode(tensor), torch.Tensor)
    assert encode(tensor).dtype == torch.float32
    np.testing.assert_array_equal(encode(tensor).numpy(), encode(single))


def test_decode_passes_gradients(clips):
    vectors = torch.from_numpy(encode(clips[0])).requires_grad_()
    decode(vectors)[-1].sum().backward()
    touched = vectors.grad.abs().sum(0) > 0
    assert touched[SLICES.root_linear_velocity].all()
    assert touched[SLICES.positions].all()
    assert not touched[SLICES.rotations].any()


def test_foot_contacts_follow_displacement_not_height():
    joints = np.zeros((3, 22, 3))
    joints[:, 7, 1] = 1.5  # a left ankle that hangs still in the air is in contact for the official code
    joints[1:, 8, 0] = 0.05  # a right ankle that moves 5 cm: 0.0025 > 0.002
    contacts = features.foot_contacts(torch.from_numpy(joints)).numpy()
    assert contacts.tolist() == [[True, True, False, True], [True, True, True, True]]


def test_kit_features_round_trip_in_its_own_units():
    rng = np.random.default_rng(0)
    rest = np.zeros((21, 3))
    for joint, parent in enumerate(KIT.parents):
        if parent >= 0:
            rest[joint] = rest[parent] + 150 * np.array(KIT.rest_directions[joint], float)
    joints = rest + 10 * np.cumsum(rng.standard_normal((30, 21, 3)), axis=0) * 0.1
    vectors = encode(joints)
    assert vectors.shape == (29, 251)
    assert np.abs(decode(vectors) - features.canonicalise(joints)[:-1]).max() < 1e-6


@pytest.mark.parametrize(
    ("shape", "message"),
    [((10, 24, 3), "24"), ((22, 3), "frames"), ((10, 22, 2), "frames, joints, 3"), ((1, 22, 3), "at least 2 frames")],
)
def test_encode_refuses_other_shapes(shape, message):
    with pytest.raises(ValueError, match=message):
        encode(np.zeros(shape))


def test_decode_refuses_integers_and_other_widths():
    with pytest.raises(TypeError, match="int64"):
        encode(np.zeros((10, 22, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="66"):
        decode(np.zeros((10, 66)))

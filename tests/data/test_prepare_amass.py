"""`prepare amass`: SMPL-H parameters become the joints that the body model itself would give."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.prepare.amass import prepare_amass
from adaqf_train.errors import DataError
from adaqf_train.motion.features import encode
from adaqf_train.motion.skeleton import HUMANML3D

SPLITS = {"train": "KIT/3/walk_poses", "val": "KIT/4/walk_poses", "test": "CMU/bow_poses"}


class StubSMPLH:
    """What is used of smplx.SMPLH: rest joints that depend on gender and shape."""

    def __init__(self, model_path: str, ext: str, gender: str, use_pca: bool, num_betas: int) -> None:
        assert Path(model_path).is_file()
        assert (ext, use_pca, num_betas) == ("npz", False, 10)
        self.size = {"male": 1.1, "female": 0.9}[gender]

    def __call__(self, betas: torch.Tensor) -> SimpleNamespace:
        root = torch.tensor([0.0, -0.2, 0.03])  # the models' root is not at their origin
        lengths = torch.tensor(HUMANML3D.bone_lengths) * self.size * (1 + 0.01 * betas[0, 0])
        rest = torch.tensor(HUMANML3D.rest_directions, dtype=torch.float32)[1:]
        body = HUMANML3D.pose_from_directions(root, rest, lengths)
        return SimpleNamespace(joints=torch.cat([body, torch.zeros(30, 3)])[None])


def parameters(seed: int = 0, frames: int = 241, rate: float = 120.0) -> dict[str, np.ndarray]:
    """A body that stands, Z up as in AMASS, and moves every joint a little."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / rate
    poses = 0.2 * np.sin(rng.uniform(2, 5, 156) * time + rng.uniform(0, 6, 156))
    poses[:, :3] = [np.pi / 2, 0, 0]
    trans = np.array([0, 0, 0.9]) + time * np.array([0, -0.6, 0])  # SMPL's +Z, ahead, is AMASS's -Y
    return {
        "trans": trans,
        "poses": poses,
        "betas": rng.normal(size=16),
        "gender": np.array("male" if seed % 2 else "female"),
        "mocap_framerate": np.array(rate),
    }


def reference(content: dict[str, np.ndarray]) -> np.ndarray:
    """Joints (T, 22, 3), Z up, one frame and joint at a time."""
    shape = torch.from_numpy(content["betas"][None, :10]).float()
    model = StubSMPLH(__file__, "npz", str(content["gender"]), False, 10)
    rest = model(shape).joints[0, :22].numpy().astype(float)
    joints = np.zeros((len(content["trans"]), 22, 3))
    for frame, pose in enumerate(content["poses"]):
        turns = []
        for joint, parent in enumerate(HUMANML3D.parents):
            turn = Rotation.from_rotvec(pose[3 * joint : 3 * joint + 3])
            if parent < 0:
                joints[frame, joint] = rest[0] + content["trans"][frame]
                turns.append(turn)
            else:
                joints[frame, joint] = joints[frame, parent] + turns[parent].apply(rest[joint] - rest[parent])
                turns.append(turns[parent] * turn)
    return joints


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three takes, two of which differ only in their folders, and the body models."""
    monkeypatch.setitem(sys.modules, "smplx", SimpleNamespace(SMPLH=StubSMPLH))
    source = tmp_path / "amass"
    for seed, (split, name) in enumerate(SPLITS.items()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(source / f"{name}.npz", **parameters(seed))
        (source / f"{split}.txt").write_text(name.replace("/", "_"))
    np.savez(source / "KIT/3/shape.npz", betas=np.zeros(16))  # as they lie about in AMASS
    (source / "captions.json").write_text(json.dumps({name: [f"a {split} walk"] for split, name in SPLITS.items()}))
    (tmp_path / "models" / "smplh").mkdir(parents=True)
    for gender in ("MALE", "FEMALE"):
        (tmp_path / "models" / "smplh" / f"SMPLH_{gender}.npz").touch()
    return source


def options(source: Path) -> dict[str, Path]:
    return {"captions": source / "captions.json", "body_models": source.parent / "models"}


def test_prepare_amass_gives_the_body_models_joints(source, tmp_path):
    summary = prepare_amass(source, tmp_path / "out", **options(source))
    assert summary.clips == {"train": 1, "val": 1, "test": 1}
    assert summary.skipped == {"no caption": ["KIT_3_shape"]}
    for seed, (split, name) in enumerate(SPLITS.items()):
        (item,) = MotionDataset(tmp_path / "out", split).items
        assert item.key == name.replace("/", "_")
        joints = reference(parameters(seed))[::6]  # 120 to 20 frames a second
        upright = np.stack([joints[..., 0], joints[..., 2], -joints[..., 1]], axis=-1)
        assert np.abs(item.vectors - encode(upright)).max() < 1e-4
        assert np.abs(item.vectors - encode(joints)).max() > 0.1  # control: Z left up
        body = np.load(tmp_path / "out" / "new_joints" / f"{item.key}.npy")
        assert 1.2 < body[:, 15, 1].mean() < 1.8
        assert body[-1, 0, 2] > 0.5  # it goes where it faces


def test_prepare_amass_reads_genders_as_bytes_and_any_rate(source, tmp_path):
    content = parameters(0, frames=250, rate=100.0) | {"gender": np.array(b"female")}
    np.savez(source / "KIT/3/walk_poses.npz", **content)
    prepare_amass(source, tmp_path / "out", **options(source))
    assert MotionDataset(tmp_path / "out", "train").items[0].vectors.shape == (49, 263)


def smplx(content: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same parameters in SMPL-X's layout."""
    others = {key: value for key, value in content.items() if key not in ("poses", "mocap_framerate")}
    poses = content["poses"]
    return others | {
        "root_orient": poses[:, :3],
        "pose_body": poses[:, 3:66],
        "poses": np.zeros((len(poses), 165)),
        "mocap_frame_rate": content["mocap_framerate"],
        "surface_model_type": np.array("smplx"),
    }


def test_prepare_amass_reads_smplx_files_with_smplx_models(source, tmp_path, monkeypatch):
    prepare_amass(source, tmp_path / "smplh", **options(source))
    for path in source.rglob("*_poses.npz"):
        with np.load(path) as archive:
            content = dict(archive)
        np.savez(path, **smplx(content))
    with pytest.raises(DataError, match=r"SMPL-X, and .* https://smpl-x\.is\.tue\.mpg\.de .* SMPL\+H files"):
        prepare_amass(source, tmp_path / "out", **options(source))
    for gender in ("MALE", "FEMALE"):
        (tmp_path / "models" / f"SMPLX_{gender}.npz").touch()
    monkeypatch.setitem(sys.modules, "smplx", SimpleNamespace(SMPLX=StubSMPLH))
    prepare_amass(source, tmp_path / "out", **options(source))
    for path in (tmp_path / "smplh" / "new_joint_vecs").glob("*.npy"):
        np.testing.assert_allclose(np.load(path), np.load(tmp_path / "out" / "new_joint_vecs" / path.name), atol=1e-5)


def without(key: str):
    return lambda content: {name: array for name, array in content.items() if name != key}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("poses"), "walk_poses.npz: not an SMPL-H file with trans, poses"),
        (lambda c: c | {"gender": np.array("neutral")}, "no SMPL-H model of gender neutral (SMPLH_NEUTRAL.npz"),
        (lambda c: c | {"poses": c["poses"][:, :60]}, "poses (241, 60)"),
        (lambda c: c | {"trans": c["trans"][:-1]}, "trans (240, 3)"),
        (lambda c: c | {"trans": np.full_like(c["trans"], np.nan)}, "trans are not finite"),
        (lambda c: c | {"betas": np.arange(16)}, "betas are not finite numbers"),
        (lambda c: c | {"mocap_framerate": np.array(0.0)}, "mocap_framerate is 0"),
        (lambda c: c | {"gender": np.array({}, dtype=object)}, "not an SMPL-H file"),
        (lambda c: smplx(c) | {"mocap_frame_rate": np.array(-1.0)}, "mocap_frame_rate is -1"),
        (lambda c: smplx(c) | {"pose_body": c["poses"][:, :60]}, "poses (241, 3) and (241, 60)"),
        (lambda c: smplx(c) | {"root_orient": c["poses"][:5, :3]}, "poses (5, 3) and (241, 63)"),
    ],
)
def test_prepare_amass_reports_bad_files_in_one_line(source, tmp_path, capsys, change, says):
    np.savez(source / "KIT/3/walk_poses.npz", **change(parameters()))
    assert says in error_of(capsys, source, tmp_path)


def test_prepare_amass_names_damaged_files(source, tmp_path, capsys):
    path = source / "KIT/3/walk_poses.npz"
    path.write_bytes(path.read_bytes()[:5000])
    assert "walk_poses.npz: not an SMPL-H file" in error_of(capsys, source, tmp_path)


def test_prepare_amass_refuses_paths_with_equal_names(source, tmp_path, capsys):
    np.savez(source / "KIT_3_walk_poses.npz", **parameters())
    assert "has the name of" in error_of(capsys, source, tmp_path)


def test_prepare_amass_says_where_to_get_package_and_models(source, tmp_path, capsys, monkeypatch):
    (tmp_path / "models" / "smplh" / "SMPLH_FEMALE.npz").unlink()
    message = error_of(capsys, source, tmp_path)  # of two files, in one line
    assert message.count("_poses.npz") == 2
    assert "no SMPL-H model of gender female" in message
    assert "--body-models" in message
    (tmp_path / "models" / "smplh" / "SMPLH_FEMALE.npz").touch()
    monkeypatch.setitem(sys.modules, "smplx", None)
    assert "pip install smplx" in error_of(capsys, source, tmp_path)


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'chumpy'"), KeyError("hands_meanl")])
def test_prepare_amass_names_unreadable_models(source, tmp_path, capsys, monkeypatch, error):
    def refusing(*_, **__):
        raise error

    monkeypatch.setitem(sys.modules, "smplx", SimpleNamespace(SMPLH=refusing))
    message = error_of(capsys, source, tmp_path)
    assert "SMPLH_FEMALE.npz: " in message
    assert str(error) in message


def error_of(capsys, source: Path, tmp_path: Path) -> str:
    """Runs the command, which must fail and leave nothing; returns its one line of error."""
    capsys.readouterr()
    given = options(source)
    command = ["--captions", str(given["captions"]), "--body-models", str(given["body_models"])]
    assert main(["prepare", "amass", str(source), str(tmp_path / "out"), *command]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["amass", "models"]
    return line

"""Motions of other programs: read in every format, scored by the same protocol, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.prepare.procedural import prepare_procedural
from adaqf_train.errors import DataError
from adaqf_train.evaluation.motions import read_motions
from adaqf_train.motion.features import decode, encode


@pytest.fixture(scope="module")
def real(tiny_data) -> MotionDataset:
    return MotionDataset(tiny_data, "test")


@pytest.fixture
def copies(real, tmp_path) -> Path:
    """The split's own features under its clips' names."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for item in real.items:
        np.save(folder / f"{item.key}.npy", item.vectors)
    return folder


def mdm_results(path: Path, dataset: MotionDataset, **changes: object) -> Path:
    """A file as MDM's sampling writes it: joints (N, J, 3, frames), padded to one length."""
    clips = [decode(item.vectors) for item in dataset.items]
    lengths = np.array([len(clip) for clip in clips])
    motion = np.zeros((len(clips), 22, 3, lengths.max()), dtype=np.float32)
    for row, clip in zip(motion, clips, strict=True):
        row[..., : len(clip)] = clip.transpose(1, 2, 0)
    text = [item.captions[0] for item in dataset.items]
    content = {"motion": motion, "text": text, "lengths": lengths, "num_samples": len(text), "num_repetitions": 1}
    np.save(path, content | changes)
    return path


def test_read_motions_takes_the_captions_of_the_clips(copies, real):
    found = read_motions(copies, real)
    by_key = {item.key: item for item in real.items}
    assert found.captions == [by_key[path.stem].captions[0] for path in sorted(copies.glob("*.npy"))]
    assert all(len(motion) % 4 == 0 for motion in found.motions)


def test_read_motions_encodes_joints_and_mdms_file(copies, real, tmp_path):
    key = real.items[0].key
    joints = decode(real.items[0].vectors.astype(np.float64))
    np.save(copies / f"{key}.npy", np.add(joints, [3.0, 0.2, -1.0]))  # elsewhere on the floor, and above it
    first = sorted(copies.glob("*.npy")).index(copies / f"{key}.npy")
    expected = encode(joints).astype(np.float32)
    found = read_motions(copies, real).motions[first]
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-4)
    theirs = read_motions(mdm_results(tmp_path / "results.npy", real), real)
    assert theirs.captions == [item.captions[0] for item in real.items]
    np.testing.assert_allclose(theirs.motions[0], expected[: len(theirs.motions[0])], atol=1e-3)


def test_read_motions_prefers_prompts_beside_the_motions(copies, real):
    names = sorted(path.stem for path in copies.glob("*.npy"))
    (copies / f"{names[0]}.txt").write_text("a person dances#a/DET#0.0#0.0\n", encoding="utf-8-sig")
    (copies / "captions.json").write_text(json.dumps({names[1]: "a person sings"}))
    assert read_motions(copies, real).captions[:2] == ["a person dances", "a person sings"]


def test_read_motions_takes_the_parameters_of_procedural_clips(tmp_path):
    prepare_procedural(tmp_path / "data", clips=100, seed=3)
    split = MotionDataset(tmp_path / "data", "test")
    folder = tmp_path / "theirs"
    folder.mkdir()
    for item in split.items:
        np.save(folder / f"{item.key}.npy", item.vectors)
    names = sorted(item.key for item in split.items)
    (folder / f"{names[0]}.txt").write_text("a person dances\n")
    items = {item.key: item for item in split.items}
    found = read_motions(folder, split).parameters
    assert found[0] is None
    assert found[1:] == [split.parameters(items[name]) for name in names[1:]]
    captions = [item.captions[0] for item in split.items]
    unnamed = read_motions(mdm_results(tmp_path / "results.npy", split), split).parameters
    owners = [[item for item in split.items if caption in item.captions] for caption in captions]
    assert unnamed == [split.parameters(who[0]) if len(who) == 1 else None for who in owners]
    assert any(actions is not None for actions in unnamed)


def test_evaluate_motions_gives_real_ones_better_figures_than_noise(tiny_run, copies, real, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = (run / "report.json").read_bytes()
    command = ["evaluate", "--run", str(run), "--motions", str(copies), "--out", str(tmp_path / "scored")]
    assert main(command) == 0
    rows = json.loads((tmp_path / "scored" / "report.json").read_text())["rows"]
    assert list(rows) == ["gt", "theirs"]
    noise = {path.stem: np.random.default_rng(0).standard_normal(np.load(path).shape) for path in copies.glob("*.npy")}
    for name, values in noise.items():
        np.save(copies / f"{name}.npy", values.astype(np.float32))
    assert main(command) == 0
    noisy = json.loads((tmp_path / "scored" / "report.json").read_text())["rows"]
    assert noisy["gt"] == rows["gt"]
    assert noisy["theirs"]["fid"]["mean"] > 10 * rows["theirs"]["fid"]["mean"]
    assert (run / "report.json").read_bytes() == before  # the run's own report is left alone


class Mischief:
    def __reduce__(self):
        return print, ("called",)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nowhere", "no such folder"),
        ("empty", r"no \.npy files"),
        ("few", "3 motions; evaluation needs at least 8"),
        ("unknown name", "stranger.npy: no prompt for it"),
        ("other width", r"shape \(60, 251\), expected features \(frames, 263\)"),
        ("other joints", "No standard skeleton has 17 joints"),
        ("nan", "NaN or infinite at frame 7"),
        ("short", "3 frames of features, fewer than one unit of 4"),
        ("code", "print, which is not data"),
        ("plain numbers", "not a results file of MDM"),
        ("no text", "text missing"),
        ("lengths", "do not fit together"),
    ],
)
def test_read_motions_names_what_cannot_be_scored(copies, real, tmp_path, capsys, how, said):
    path, first = copies, sorted(copies.glob("*.npy"))[0]
    if how == "nowhere":
        path = tmp_path / "nowhere"
    elif how == "empty":
        path = tmp_path / "empty"
        path.mkdir()
    elif how == "few":
        for file in sorted(copies.glob("*.npy"))[3:]:
            file.unlink()
    elif how == "unknown name":
        first.rename(copies / "stranger.npy")
    elif how == "other width":
        np.save(first, np.zeros((60, 251)))
    elif how == "other joints":
        np.save(first, np.zeros((60, 17, 3)))
    elif how == "nan":
        vectors = np.load(first)
        vectors[7, 0] = np.nan
        np.save(first, vectors)
    elif how == "short":
        np.save(first, np.load(first)[:3])
    elif how == "code":
        path = tmp_path / "results.npy"
        np.save(path, {"motion": Mischief()}, allow_pickle=True)
    elif how == "plain numbers":
        path = tmp_path / "results.npy"
        np.save(path, np.zeros(3))
    elif how == "no text":
        path = tmp_path / "results.npy"
        np.save(path, {"motion": np.zeros((1, 22, 3, 9)), "lengths": [9]})
    elif how == "lengths":
        path = mdm_results(tmp_path / "results.npy", real, lengths=np.array([40]))
    with pytest.raises(DataError, match=said) as error:
        read_motions(path, real)
    assert "\n" not in str(error.value)
    assert "called" not in capsys.readouterr().out

"""The reader of HumanML3D folders: what upstream's loader keeps, and one clear error for each thing that is wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.config import DataConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import Caption, caption_line, parse_lines
from adaqf_train.errors import DataError


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that a test may damage."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


def first(data: Path, split: str = "train") -> str:
    return (data / f"{split}.txt").read_text().split()[0]


def write_texts(data: Path, name: str, *lines: str) -> None:
    (data / "texts" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


def test_dataset_has_one_item_per_clip_with_all_captions(tiny_data):
    dataset = MotionDataset(tiny_data, "val")
    names = (tiny_data / "val.txt").read_text().split()
    assert [item.key for item in dataset.items] == names
    for item in dataset.items:
        assert item.vectors.shape[1] == 263
        assert 40 <= len(item.vectors) < 200
        assert len(item.captions) == len((tiny_data / "texts" / f"{item.key}.txt").read_text().splitlines())


def test_normalise_gives_the_groups_unit_deviation(tiny_train):
    values = tiny_train.normalise(np.concatenate([item.vectors for item in tiny_train.items]))
    assert np.abs(values.mean(axis=0)).max() < 1e-3
    spread = values.std(axis=0)
    assert spread[4:67].mean() == pytest.approx(1, abs=1e-3)
    assert spread[4:67].std() > 0.1  # averaged within the group, not per feature


def test_segments_become_items(data):
    name = first(data)
    frames = len(np.load(data / "new_joint_vecs" / f"{name}.npy"))
    write_texts(data, name, "all of it#all/DET#0.0#0.0", "the end#end/NOUN#0.0#2.0", "a bit#bit/NOUN#0.5#1.0")
    items = [
        item for item in MotionDataset(data, "train", DataConfig(min_frames=20)).items if item.key.startswith(name)
    ]
    assert {item.captions: len(item.vectors) for item in items} == {("all of it",): frames, ("the end",): 40}
    assert len({item.key for item in items}) == 2
    short = [item.key for item in MotionDataset(data, "train", DataConfig(min_frames=8)).items]
    assert sum(key.startswith(name) for key in short) == 3  # the half second counts when the filter allows it


def test_segments_with_nan_mean_the_whole_clip(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("walks#walk/VERB#nan#nan\nruns#run/VERB#1.5#3\n")
    assert parse_lines(path.read_bytes(), "a.txt") == [Caption("walks"), Caption("runs", (1.5, 3.0))]


def test_caption_lines_round_trip(tmp_path):
    path = tmp_path / "a.txt"
    captions = [Caption("He turns 90 degrees, twice!"), Caption("stops", (0.5, 2.0))]
    path.write_text("".join(caption_line(caption) + "\n" for caption in captions))
    assert parse_lines(path.read_bytes(), "a.txt") == captions


def test_dataset_omits_lengths_outside_the_filter(tiny_data, tiny_train):
    lengths = sorted(len(item.vectors) for item in tiny_train.items)
    config = DataConfig(min_frames=lengths[3] + 1, max_frames=lengths[-3])
    kept = [len(item.vectors) for item in MotionDataset(tiny_data, "train", config).items]
    assert kept
    assert len(kept) < len(lengths)
    assert min(kept) >= config.min_frames
    assert max(kept) < config.max_frames


def test_dataset_skips_and_names_the_official_nan_clips(data):
    with (data / "train.txt").open("a") as file:
        file.write("007975\n")
    with pytest.warns(UserWarning, match="007975"):
        dataset = MotionDataset(data, "train")
    assert "007975" not in [item.key for item in dataset.items]


def test_fingerprint_covers_captions_features_and_statistics(data):
    original = MotionDataset(data, "train").fingerprint()
    assert MotionDataset(data, "train").fingerprint() == original
    write_texts(data, first(data), "something else#something/NOUN#0.0#0.0")
    changed_text = MotionDataset(data, "train").fingerprint()
    np.save(data / "Mean.npy", np.load(data / "Mean.npy") + 1e-3)
    assert len({original, changed_text, MotionDataset(data, "train").fingerprint()}) == 3


def joints_instead(path: Path) -> None:
    np.save(path, np.zeros((60, 22, 3), np.float32))


def wrong_width(path: Path) -> None:
    np.save(path, np.zeros((60, 66), np.float32))


def not_finite(path: Path) -> None:
    vectors = np.load(path)
    vectors[17, 5] = np.nan
    np.save(path, vectors)


def too_large(path: Path) -> None:
    vectors = np.load(path).astype(np.float64)
    vectors[3, 5] = 1e300  # infinite once it is float32
    np.save(path, vectors)


def boastful(path: Path) -> None:
    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000, 263), }"
    path.write_bytes(header.ljust(127) + b"\n" + bytes(100))


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def integers(path: Path) -> None:
    np.save(path, np.zeros((60, 263), np.int64))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (wrong_width, "66 features per frame, expected 263.*prepare joints"),
        (joints_instead, r"joint positions \(60, 22, 3\).*prepare joints"),
        (not_finite, "NaN or infinite at frame 17.*Repair"),
        (too_large, "NaN or infinite at frame 3.*Repair"),
        (boastful, "not a readable .npy file"),
        (pickled, "not a readable .npy file"),
        (truncated, "not a readable .npy file"),
        (integers, "dtype int64, expected floats"),
        (Path.unlink, "captions without a motion.*Restore"),
    ],
)
def test_dataset_names_a_bad_motion_file_and_the_remedy(data, damage, message):
    path = data / "new_joint_vecs" / f"{first(data)}.npy"
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        MotionDataset(data, "train")
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dataset_refuses_captions_without_a_motion(data):
    write_texts(data, "stray", "a person waves#wave/VERB#0.0#0.0")
    with pytest.raises(DataError, match=r"stray\.txt: captions without a motion"):
        MotionDataset(data, "train")


def test_dataset_refuses_a_motion_without_captions(data):
    (data / "texts" / f"{first(data)}.txt").unlink()
    with pytest.raises(DataError, match=rf"{first(data)}\.txt: missing, though train.txt lists"):
        MotionDataset(data, "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no separators", "line 2: expected caption#tokens#from#to"),
        ("walks#w/V#a#b", "line 2: from and to must be seconds"),
        ("walks#w/V#3.0#1.0", "line 2: the segment"),
        (" #w/V#0.0#0.0", "line 2: the caption is empty"),
    ],
)
def test_dataset_names_a_malformed_caption_line(data, line, message):
    write_texts(data, first(data), "fine#fine/ADJ#0.0#0.0", line)
    with pytest.raises(DataError, match=message):
        MotionDataset(data, "train")


def test_dataset_refuses_missing_and_empty_lists(data):
    (data / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt: the val split is empty"):
        MotionDataset(data, "val")
    (data / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt: the list of the val split is missing"):
        MotionDataset(data, "val")
    with pytest.raises(DataError, match=r"none of its .* clips has 150 to 199 frames"):
        MotionDataset(data, "train", DataConfig(min_frames=150))
    with pytest.raises(DataError, match="no such folder"):
        MotionDataset(data / "nowhere", "train")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("Std.npy", np.zeros(263, np.float32), "cannot normalise"),
        ("Mean.npy", np.full(263, np.nan, np.float32), "cannot normalise"),
        ("Mean.npy", np.zeros(66, np.float32), "66"),
        ("Std.npy", np.ones(251, np.float32), "differ in width"),
    ],
)
def test_dataset_refuses_statistics_that_cannot_normalise(data, name, array, message):
    np.save(data / name, array)
    with pytest.raises(DataError, match=message):
        MotionDataset(data, "train")


@pytest.mark.data
def test_dataset_reads_official_files_as_distributed(shared, tmp_path):
    folder = tmp_path / "official"
    shutil.copytree(shared("humanml3d-samples"), folder)
    (folder / "train.txt").write_text("000000\n")
    dataset = MotionDataset(folder, "train")
    assert len(dataset) == 1
    assert dataset.items[0].vectors.shape[1] == 263
    assert all("#" not in caption for caption in dataset.items[0].captions)
    assert np.abs(dataset.normalise(dataset.items[0].vectors)).max() < 50
    assert replace(dataset.items[0], key="x").key == "x"

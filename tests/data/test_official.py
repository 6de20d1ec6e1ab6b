"""HumanML3D and KIT-ML as they are distributed, and as MDM and MoMask keep them."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.config import DataConfig, recipes
from adaqf_train.data import cache
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import Caption, CaptionedMotion, write_folder
from adaqf_train.data.official import evaluator_statistics, locate
from adaqf_train.doctor import examine
from adaqf_train.errors import DataError
from tests.helpers import kit_body, settings_of, write_clips

LENGTHS = {"000000": 50, "000001": 60, "M000001": 199}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_clips(tmp_path / "HumanML3D", LENGTHS)


def zip_texts(data: Path, prefix: str = "texts/", **more: bytes) -> Path:
    """Packs texts/ as a Mac would, and removes it. more: file name without .txt -> content of further entries."""
    archive = data / "texts.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{prefix}nothing/", "")
        for path in sorted((data / "texts").iterdir()):
            file.write(path, f"{prefix}{path.name}")
            file.writestr(f"__MACOSX/{prefix}._{path.name}", b"\x00\x05\x16\x07\xe9")
        file.writestr(f"{prefix}.DS_Store", b"\x00\xe9")
        for name, content in more.items():
            file.writestr(f"{prefix}{name}.txt", content)
    shutil.rmtree(data / "texts")
    return archive


@pytest.mark.parametrize("prefix", ["texts/", "", "HumanML3D/texts/"])
def test_zipped_texts_are_the_texts(data, monkeypatch, prefix):
    plain = MotionDataset(data, "train")
    zip_texts(data, prefix)
    zipped = MotionDataset(data, "train")
    assert zipped.captions() == plain.captions()
    assert zipped.fingerprint() == plain.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", None)  # the cache knows all that is in it
        assert MotionDataset(data, "train").fingerprint() == plain.fingerprint()
    monkeypatch.setenv(cache.PLACE, str(data / "Mean.npy"))
    with pytest.warns(UserWarning, match="cache of the motions cannot be written"):
        assert MotionDataset(data, "train").fingerprint() == plain.fingerprint()


def test_zipped_texts_are_read_again_after_a_change(data):
    before = MotionDataset(data, "train")
    zip_texts(data)
    (data / "texts").mkdir()
    for name in LENGTHS:
        (data / "texts" / f"{name}.txt").write_text("other words#other/ADJ#0.0#0.0\n")
    (data / "texts.zip").unlink()
    zip_texts(data)
    assert set(MotionDataset(data, "train").captions()) == {"other words"} != set(before.captions())


def test_unzipped_texts_come_first(data):
    plain = MotionDataset(data, "train").captions()
    shutil.copytree(data / "texts", data / "kept")
    (data / "texts" / "000000.txt").write_text("older words#old/ADJ#0.0#0.0\n")
    zip_texts(data)
    (data / "kept").rename(data / "texts")
    assert MotionDataset(data, "train").captions() == plain


def test_zipped_texts_name_the_fault_of_an_archive(data):
    archive = zip_texts(data, stray=b"waves#wave/VERB#0.0#0.0\n")
    with pytest.raises(DataError, match=r"texts\.zip: texts/stray\.txt: captions without a motion"):
        MotionDataset(data, "train")
    np.save(data / "new_joint_vecs" / "stray.npy", np.zeros((50, 263), np.float32))
    np.save(data / "new_joint_vecs" / "silent.npy", np.zeros((50, 263), np.float32))
    (data / "val.txt").write_text("silent\n")
    with pytest.raises(DataError, match=r"texts\.zip: texts/silent\.txt: missing, though val.txt lists silent"):
        MotionDataset(data, "val")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("texts/silent.txt", b"fine#fine/ADJ#0.0#0.0\na caf\xe9#cafe/NOUN#0.0#0.0\n")
    with pytest.raises(DataError, match=r"texts/silent\.txt: not UTF-8 \(byte 27 is 0xe9\)"):
        MotionDataset(data, "val")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("more/silent.txt", b"fine#fine/ADJ#0.0#0.0\n")
    with pytest.raises(DataError, match=r"contains texts/silent\.txt and more/silent\.txt"):
        MotionDataset(data, "val")
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match=r"texts\.zip: not a zip archive.*unzip it"):
        MotionDataset(data, "train")


def test_captions_with_a_latin_1_byte_are_refused(data):
    (data / "texts" / "000001.txt").write_bytes("in a café#in/ADP#0.0#0.0\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"000001\.txt: not UTF-8 \(byte 8 is 0xe9\)\. Save the file as UTF-8"):
        MotionDataset(data, "train")


def test_clip_files_ignore_files_of_macos(data):
    (data / "texts" / "._000000.txt").write_bytes(b"\x00\xe9")
    (data / "new_joint_vecs" / "._000000.npy").write_bytes(b"\x00\xe9")
    assert len(MotionDataset(data, "train")) == 3


@pytest.mark.parametrize("inside", [".", "HumanML3D", "dataset/HumanML3D", "dataset/KIT-ML", "somewhere"])
def test_locate_finds_the_folder_where_codebases_keep_it(tmp_path, inside):
    root = tmp_path / "root"
    folder = write_clips(root / inside, {"a": 50})
    (root / "utils").mkdir()
    assert locate(folder) == folder
    assert locate(root) == folder
    assert locate(folder.parent) == folder or inside == "."
    assert len(MotionDataset(locate(root), "train")) == 1


def test_locate_counts_a_link_once(data, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "HumanML3D").symlink_to(data, target_is_directory=True)
    assert locate(tmp_path).samefile(data)


def test_locate_refuses_to_guess_between_folders(tmp_path, capsys):
    for name in ("HumanML3D", "KIT-ML"):
        write_clips(tmp_path / "dataset" / name, {"a": 50})
    with pytest.raises(DataError, match=r"contains 2 data sets\. Give one of .*HumanML3D, .*KIT-ML"):
        locate(tmp_path)
    assert main(["pipeline", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    assert "error: " in capsys.readouterr().err
    assert locate(tmp_path / "dataset" / "KIT-ML").name == "KIT-ML"


def test_locate_serves_runs_on_mdms_layout(tiny_data, tiny_config, tmp_path):
    folder = tmp_path / "mdm" / "dataset" / "HumanML3D"
    shutil.copytree(tiny_data, folder, ignore=shutil.ignore_patterns(cache.HIDDEN))
    zip_texts(folder)
    out = tmp_path / "run"
    options = ["--recipe", "pocket", "--data", str(tmp_path / "mdm"), "--out", str(out)]
    assert main(["extractors", *options, *settings_of(tiny_config)]) == 0
    assert json.loads((out / "run.json").read_text())["data"] == str(folder)


def test_locate_says_what_is_missing(data, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        locate(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no data set .*adaqf prepare"):
        locate(tmp_path / "empty")
    shutil.rmtree(data / "new_joint_vecs")
    assert locate(data) == data
    with pytest.raises(DataError, match="captions without a motion"):
        MotionDataset(data, "train")


def write_statistics(mean: Path, std: Path, features: int, value: float) -> None:
    mean.parent.mkdir(parents=True, exist_ok=True)
    np.save(mean, np.full(features, -float(value)))
    np.save(std, np.full(features, float(value)))


def test_evaluator_statistics_match_the_kind_of_data(tmp_path):
    folder = write_clips(tmp_path / "dataset" / "KIT-ML", {"a": 50}, features=251)
    assert evaluator_statistics(folder) is None
    for prefix, features in (("t2m", 263), ("kit", 251)):
        at = tmp_path / "dataset"
        write_statistics(at / f"{prefix}_mean.npy", at / f"{prefix}_std.npy", features, value=features)
    mean, std = evaluator_statistics(folder)
    assert mean.tolist() == [-251] * 251
    assert std.tolist() == [251] * 251
    assert mean.dtype == std.dtype == np.float32


@pytest.mark.parametrize("name", ["Comp_v6_KLD005", "Comp_v6_KLD01"])
def test_evaluator_statistics_are_found_beside_momasks_checkpoints(tmp_path, name):
    folder = write_clips(tmp_path / "dataset" / "HumanML3D", {"a": 50})
    meta = tmp_path / "checkpoints" / "t2m" / name / "meta"
    write_statistics(meta / "mean.npy", meta / "std.npy", 263, value=2)
    assert evaluator_statistics(folder)[1].tolist() == [2] * 263
    write_statistics(folder / "t2m_mean.npy", folder / "t2m_std.npy", 263, value=3)
    assert evaluator_statistics(folder)[1].tolist() == [3] * 263  # what lies with the data was put there on purpose


def test_evaluator_statistics_refuse_unusable_values(data):
    mean, std = data / "t2m_mean.npy", data / "t2m_std.npy"
    write_statistics(mean, std, 251, value=1)
    with pytest.raises(DataError, match=r"t2m_mean\.npy: shape \(251,\), expected \(263,\)"):
        evaluator_statistics(data)
    write_statistics(mean, std, 263, value=0)
    with pytest.raises(DataError, match=r"t2m_std\.npy: contains values that cannot normalise"):
        evaluator_statistics(data)


@pytest.mark.data
def test_evaluator_statistics_differ_from_the_datas_as_published(shared):
    folder = shared("humanml3d-samples")
    _, std = evaluator_statistics(folder)
    ratio = np.load(folder / "Std.npy") / std
    assert ratio[:4] == pytest.approx(25, rel=0.05)
    assert ratio[-4:] == pytest.approx(25, rel=0.05)
    assert np.median(ratio[4:-4]) == pytest.approx(1, abs=0.05)


def test_segments_are_cut_to_whole_frames_and_filtered_after_the_clip(tmp_path):
    folder = write_clips(tmp_path / "KIT-ML", {"a": 100, "long": 210}, features=251)  # 12.5 frames a second
    lines = "all#all/DET#0.0#0.0\nend#end/NOUN#2.99#99.0\nbit#bit/NOUN#0.0#1.95\nstart#start/NOUN#nan#1.9\n"
    for name in ("a", "long"):
        (folder / "texts" / f"{name}.txt").write_text(lines)
    dataset = MotionDataset(folder, "train", recipes.load("kit").data)
    assert {item.key: len(item.vectors) for item in dataset.items} == {"a#1:37-1237": 63, "a#2:0-24": 24, "a": 100}
    assert dataset.left_out == 2  # the last segment (23.75 frames are 23), and the long clip with all its segments
    whole = dataset.items[-1].vectors
    assert np.array_equal(dataset.items[0].vectors, whole[37:])
    assert MotionDataset(folder, "train", DataConfig(min_frames=40)).items[0].key == "a#1:37-1237"


def test_dataset_skips_and_reports_kit_names_without_a_motion(tmp_path):
    body = [
        CaptionedMotion(f"{i:05d}", kit_body(60, seed=i), (Caption("a person sways"),), split)
        for i, split in enumerate(("train", "train", "train", "val", "test"))
    ]
    write_folder(tmp_path / "kit", body)
    (tmp_path / "kit" / "new_joint_vecs" / "00001.npy").unlink()
    for _ in range(2):  # without a cache, and out of one
        with pytest.warns(UserWarning, match=r"skipping 1 clips without a motion \(00001\)"):
            dataset = MotionDataset(tmp_path / "kit", "train")
        assert [item.key for item in dataset.items] == ["00000", "00002"]
    (tmp_path / "kit" / "new_joint_vecs" / "00004.npy").unlink()
    with pytest.raises(DataError, match=r"00004.npy: missing"):  # all of a split is another matter
        MotionDataset(tmp_path / "kit", "test")


def test_doctor_finds_zipped_texts_in_a_nested_folder(data):
    shutil.rmtree(data / ".adaclip_cache", ignore_errors=True)
    archive = zip_texts(data)
    before = examine(data.parent)
    assert before.folder == data
    assert before.facts["captions"] == 3
    assert "captions without a motion" not in {finding.what for finding in before.findings}
    archive.write_bytes(archive.read_bytes()[:50])
    (unreadable,) = [f for f in examine(data).findings if f.what == "captions that cannot be read"]
    assert "texts.zip: not a zip archive" in unreadable.where[0]

"""Several data sets as one: nothing of a clip changes but its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.prepare.merge import prepare_merged
from adaqf_train.data.prepare.procedural import prepare_procedural
from adaqf_train.errors import DataError


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp("merge") / name for name in ("a", "b")}
    for seed, folder in enumerate(folders.values()):
        prepare_procedural(folder, clips=24 + 6 * seed, seed=seed)
    return folders


@pytest.fixture(scope="module")
def merged(two, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "both"
    prepare_merged(two, folder)
    return folder


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_prepare_merged_keeps_every_clip_unchanged(two, merged, split):
    both = {item.key: item for item in MotionDataset(merged, split).items}
    parts = {f"{label}_{item.key}": item for label, d in two.items() for item in MotionDataset(d, split).items}
    assert both.keys() == parts.keys()
    for key, item in parts.items():
        assert np.array_equal(both[key].vectors, item.vectors)
        assert both[key].captions == item.captions
    assert MotionDataset(merged, split).parameters(next(iter(both.values())))


def test_prepare_merged_computes_statistics_over_all_training_clips(two, merged):
    rows = [
        np.load(d / "new_joint_vecs" / f"{n}.npy") for d in two.values() for n in (d / "train.txt").read_text().split()
    ]
    assert np.allclose(np.load(merged / "Mean.npy"), np.concatenate(rows).mean(axis=0), atol=1e-5)
    assert not np.allclose(np.load(merged / "Mean.npy"), np.load(two["a"] / "Mean.npy"), atol=1e-5)


def test_prepare_merged_is_a_kind_of_the_verb(two, tmp_path, capsys):
    arguments = [f"{label}={folder}" for label, folder in two.items()]
    assert main(["prepare", "merged", str(tmp_path / "out"), *arguments]) == 0
    assert "train" in capsys.readouterr().out
    assert (tmp_path / "out" / "Mean.npy").is_file()
    assert main(["prepare", "merged", str(tmp_path / "more"), str(two["a"]), arguments[1]]) == 1
    assert "expected LABEL=FOLDER" in capsys.readouterr().err
    assert main(["prepare", "merged", str(tmp_path / "more"), arguments[0], arguments[0]]) == 1
    assert "Give each its own" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [("a",), ("a", "../b")])
def test_prepare_merged_leaves_nothing_after_an_error(two, tmp_path, labels):
    with pytest.raises(DataError, match=r"merged data set needs|labels begin file names"):
        prepare_merged(dict(zip(labels, two.values(), strict=False)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prepare_merged_refuses_different_skeletons(two, tmp_path):
    kit = tmp_path / "kit"
    kit.mkdir()
    np.save(kit / "Mean.npy", np.zeros(251, np.float32))
    with pytest.raises(DataError, match="different skeletons"):
        prepare_merged({"a": two["a"], "kit": kit}, tmp_path / "out")

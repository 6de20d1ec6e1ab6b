"""Procedural sets for evaluation: any size, the same each time, never a clip of the data set."""

from __future__ import annotations

import os

import numpy as np
import pytest

from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.prepare import procedural_sets as sets
from adaqf_train.data.prepare.procedural import prepare_procedural
from adaqf_train.data.prepare.procedural_sets import SetSizes, indices
from adaqf_train.errors import DataError
from adaqf_train.evaluation.attributes.parameters import is_unseen
from adaqf_train.motion.skeleton import KIT
from adaqf_train.procedural.dataset import generate, is_held_out, make, makes_held_out

SIZES = SetSizes(test=12, reference=20, held_out=3, val=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("procedural") / "data"
    prepare_procedural(folder, clips=100, seed=3)
    return folder


def test_makes_held_out_agrees_with_the_clip():
    clips = list(generate(120, seed=3))
    found = [makes_held_out(index, 3) for index in range(120)]
    assert found == [is_held_out(clip.actions) for clip in clips]
    assert 0 < sum(found) < 40


def test_indices_are_apart_and_larger_sets_keep_the_smaller(data):
    few, more = indices(SIZES, 3), indices(SetSizes(test=15, reference=20, held_out=5, val=20), 3)
    assert {name: len(found) for name, found in few.items()} == vars(SIZES)
    every = [index for found in few.values() for index in found]
    assert len(set(every)) == len(every)
    assert min(every) >= sets.FIRST > 100_000_000  # beyond any data set's
    assert all(more[name][: len(found)] == found for name, found in few.items())
    assert all(makes_held_out(index, 3) for index in few["held_out"])
    assert [makes_held_out(index, 3) for index in few["val"]] == [False, False, False, False, True] * 2
    assert not any(makes_held_out(index, 3) for name in ("test", "reference") for index in few[name])
    assert indices(SIZES, 4) != few


def test_procedural_sets_are_read_like_any_split_and_made_once(data, monkeypatch):
    folder = sets.procedural_sets(data, SIZES)
    train = MotionDataset(data, "train")
    found = {name: MotionDataset(folder, name) for name in vars(SIZES)}
    assert {name: len(split) for name, split in found.items()} == vars(SIZES)
    assert np.array_equal(found["test"].mean, train.mean)
    assert np.array_equal(found["test"].std, train.std)
    known = {item.digest for split in ("train", "val", "test") for item in MotionDataset(data, split).items}
    assert not known & {item.digest for split in found.values() for item in split.items}
    unseen = {name: [is_unseen(split.parameters(item)) for item in split.items] for name, split in found.items()}
    assert (sum(unseen["test"]), sum(unseen["held_out"]), sum(unseen["val"])) == (0, 3, 2)
    first = found["test"].items[0]
    clip = make(int(first.key), 3)
    assert set(first.captions) == set(clip.captions)
    assert len(first.vectors) == len(clip.joints) - 1
    monkeypatch.setattr(sets, "_write", lambda *arguments: pytest.fail("made again"))
    assert sets.procedural_sets(data, SIZES) == folder


def test_procedural_sets_continue_after_an_interruption(data, monkeypatch):
    sizes, made = SetSizes(test=6, reference=6, held_out=1, val=5), []

    def interrupted(index, seed):
        made.append(index)
        if len(made) == 4:
            raise KeyboardInterrupt
        return make(index, seed)

    monkeypatch.setattr(sets.procedural, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sets.procedural_sets(data, sizes)
    folder = sets.procedural_sets(data, sizes)
    assert made[4] == made[3]  # the three before it are there
    assert len(MotionDataset(folder, "test")) == 6


def test_procedural_sets_take_the_skeleton_of_the_data(tmp_path):
    prepare_procedural(tmp_path / "kit", clips=100, seed=3, skeleton=KIT)
    found = MotionDataset(sets.procedural_sets(tmp_path / "kit", SetSizes(2, 2, 1, 1)), "test")
    assert found.features == KIT.features


def test_procedural_sets_refuse_other_data_and_full_disks(tiny_data, data, monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"not procedural motions.*procedural_test to none"):
        sets.procedural_sets(tiny_data, SIZES)
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("ADACLIP_CACHE", os.fspath(blocked))
    with pytest.raises(DataError, match=r"cannot be written.*ADACLIP_CACHE"):
        sets.procedural_sets(data, SIZES)

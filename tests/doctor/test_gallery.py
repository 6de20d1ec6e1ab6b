"""The gallery: clips of every split and length with their captions, on one page that plays."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.doctor import Clip, examine
from adaqf_train.doctor.gallery import choose, write_gallery
from tests.render.test_page import NASTY, Reader, payload_of
from tests.render.test_player import picture, share, until


def clips(**counts: int) -> list[Clip]:
    """Clips of these splits, of 40, 41, 42 … frames."""
    lengths = iter(range(40, 10_000))
    return [
        Clip(f"{split}{i}", Path(f"{split}{i}.npy"), next(lengths), None if split == "unlisted" else split)
        for split, count in counts.items()
        for i in range(count)
    ]


def splits(chosen: list[Clip]) -> dict[str | None, int]:
    return {split: sum(clip.split == split for clip in chosen) for split in ("train", "val", "test", None)}


def test_choose_takes_clips_of_all_splits_and_lengths():
    given = clips(train=600, val=40, test=100, unlisted=9)
    chosen = choose(given, 12, seed=0)
    assert splits(chosen) == {"train": 6, "val": 3, "test": 3, None: 0}
    frames = [clip.frames for clip in chosen if clip.split == "train"]
    assert [(n - 40) // 100 for n in frames] == [0, 1, 2, 3, 4, 5]  # one from each sixth
    assert len({clip.name for clip in chosen}) == 12


def test_choose_follows_the_seed():
    given = clips(train=600, val=40, test=100)
    assert choose(given, 12, seed=4) == choose(given, 12, seed=4)
    assert choose(given, 12, seed=4) != choose(given, 12, seed=5)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 100}, {"train": 12, "val": 0, "test": 0, None: 0}),
        ({"train": 100, "test": 1}, {"train": 11, "val": 0, "test": 1, None: 0}),
        ({"train": 2, "val": 1}, {"train": 2, "val": 1, "test": 0, None: 0}),
        ({"unlisted": 30}, {"train": 0, "val": 0, "test": 0, None: 12}),
        ({}, {"train": 0, "val": 0, "test": 0, None: 0}),
    ],
)
def test_choose_fills_up_from_other_splits(counts, expected):
    assert splits(choose(clips(**counts), 12, seed=0)) == expected


def test_gallery_cards_show_clip_split_and_captions(tiny_data, tmp_path):
    path = tmp_path / "gallery.html"
    assert write_gallery(path, examine(tiny_data)) == 12
    assert path.stat().st_size < 1_500_000
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.\w|\bsrc=|@import|url\(|fetch\(", text)
    assert str(tiny_data) not in text  # a page to show around says nothing of the machine
    reader, payload = Reader(text), payload_of(path)
    shown = reader.texts["strong"]
    assert len(shown) == len(set(shown)) == 12
    listed = {
        name: split for split in ("train", "val", "test") for name in (tiny_data / f"{split}.txt").read_text().split()
    }
    for name, note, first, scene in zip(
        shown, reader.texts["small"], reader.texts["h2"], payload["scenes"], strict=True
    ):
        lines = (tiny_data / "texts" / f"{name}.txt").read_text().splitlines()
        assert first == lines[0].split("#")[0]
        for line in lines[1:]:
            assert line.split("#")[0] in reader.texts["li"]
        frames = len(np.load(tiny_data / "new_joint_vecs" / f"{name}.npy"))
        assert note == f"{listed[name]} · {frames} frames, {frames / 20:.1f} s"
        assert scene["takes"][0]["frames"] == frames
    assert ("class", "grid") in reader.attributes


def test_gallery_excludes_clips_that_cannot_be_shown(tiny_data, tmp_path):
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    files = sorted((data / "new_joint_vecs").glob("*.npy"))
    for path in files[:-2]:
        np.save(path, np.full((60, 263), 1e30, np.float32))  # finite, and nowhere near
    (data / "texts" / f"{files[-1].stem}.txt").unlink()
    nasty = NASTY.replace("\u2028", " ")  # which would end the line
    np.save(files[-2], np.tile(np.load(files[-2]), (9, 1)))
    (data / "texts" / f"{files[-2].stem}.txt").write_text(f"{nasty}#a/DET#0.0#0.0\nstops#stop/VERB#1#2.5\n")
    path = tmp_path / "gallery.html"
    assert write_gallery(path, examine(data), clips=80) == 1
    reader = Reader(path.read_text(encoding="utf-8"))
    assert reader.texts["strong"] == [files[-2].stem]
    assert reader.texts["h2"] == [nasty]
    assert "stops (1 to 2.5 s)" in reader.texts["li"]
    assert reader.texts["small"][0].endswith("first 12 s")
    assert write_gallery(tmp_path / "none.html", examine(tmp_path)) == 0
    assert not (tmp_path / "none.html").exists()


@pytest.mark.browser
def test_gallery_plays_in_a_browser(browse, tiny_data, tmp_path):
    path = tmp_path / "gallery.html"
    write_gallery(path, examine(tiny_data))
    page = browse(path)
    before = picture(page)
    until(page, "adaclipPlayer.time > 0.2")
    assert picture(page) != before
    for index in range(3):
        assert 0.01 < share(page, index) < 0.5

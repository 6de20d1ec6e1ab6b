"""One call for every format: what is written can be read, several motions find their files, mistakes are named."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
from PIL import Image

from adaqf_train.errors import ExportError
from adaqf_train.files import save_motion, save_motions
from adaqf_train.files.save import FORMATS
from adaqf_train.motion.bvh import read_bvh
from adaqf_train.motion.skeleton import KIT
from tests.files import glb
from tests.files.motions import dancer

DANCE = dancer(12)


@pytest.mark.parametrize("suffix", [*FORMATS, ".BVH"])
def test_save_motion_writes_every_format(tmp_path, suffix):
    path = save_motion(tmp_path / "new" / f"a{suffix}", DANCE, caption="a person <dances>")
    content = path.read_bytes()
    starts = {
        ".npy": b"\x93NUMPY",
        ".bvh": b"HIERARCHY\nROOT pelvis",
        ".glb": b"glTF",
        ".npz": b"PK",
        ".html": b"<!doctype html>",
        ".gif": b"GIF89a",
        ".png": b"\x89PNG",
        ".mp4": b"\x00\x00\x00",
    }
    assert content.startswith(starts[suffix.lower()])
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing else is left behind
    if suffix == ".html":
        assert b"a person &lt;dances&gt;" in content


def test_save_motion_uses_the_frame_rate_of_the_skeleton(tmp_path):
    path = save_motion(tmp_path / "a.bvh", dancer(5, skeleton=KIT))
    assert read_bvh(path).fps == 12.5
    faster = read_bvh(save_motion(tmp_path / "b.bvh", dancer(5), fps=30))
    assert (faster.fps, faster.frames) == (30, 5)


def test_save_motions_stacks_arrays_of_one_length(tmp_path):
    one = save_motion(tmp_path / "one.npy", DANCE)
    np.testing.assert_allclose(np.load(one), DANCE, atol=1e-6)
    assert np.load(one).dtype == np.float32
    (two,) = save_motions(tmp_path / "two.npy", [DANCE, DANCE])
    assert np.load(two).shape == (2, 12, 22, 3)
    paths = save_motions(tmp_path / "three.npy", [DANCE, DANCE[:5], DANCE])
    assert [path.name for path in paths] == ["three_000.npy", "three_001.npy", "three_002.npy"]
    assert np.load(paths[1]).shape == (5, 22, 3)


@pytest.mark.parametrize("suffix", [".bvh", ".glb"])
def test_save_motions_numbers_skeletal_files(tmp_path, suffix):
    said = []
    paths = save_motions(tmp_path / f"a{suffix}", [DANCE, DANCE[:5]], report=said.append)
    assert [path.name for path in paths] == [f"a_000{suffix}", f"a_001{suffix}"]
    assert [line.startswith(str(path)) for line, path in zip(said, paths, strict=True)] == [True, True]
    if suffix == ".bvh":
        assert [read_bvh(path).frames for path in paths] == [12, 5]
    if suffix == ".glb":
        assert len(next(glb.read(paths[1]).tracks())[2]) == 5


@pytest.mark.parametrize("suffix", [".html", ".png", ".gif"])
def test_save_motions_shows_several_in_one_picture(tmp_path, suffix):
    (path,) = save_motions(tmp_path / f"a{suffix}", [DANCE, DANCE[:5]], captions=["one", "two"])
    (alone,) = save_motions(tmp_path / f"b{suffix}", [DANCE], captions=["one"])
    if suffix == ".html":
        assert path.read_text().count("<canvas") == 2
    else:
        sizes = [np.prod(Image.open(p).size) for p in (path, alone)]
        assert sizes[0] > 1.7 * sizes[1]


@pytest.mark.parametrize(
    ("joints", "says"),
    [
        (np.zeros((5, 24, 3)), "No standard skeleton has 24 joints"),
        (np.zeros((5, 263)), r"shape \(5, 263\), expected \(T, J, 3\)"),
        (np.zeros((0, 22, 3)), "shape"),
        (np.where(np.arange(12)[:, None, None] == 7, np.nan, DANCE), "1 of 12 frames hold NaN .* frame 7"),
        (2000 * DANCE, "m from the origin"),
        ([["a"]], "not an array of numbers"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".bvh", ".glb", ".png"])
def test_save_motion_rejects_arrays_without_motion(tmp_path, suffix, joints, says):
    with pytest.raises(ExportError, match=says):
        save_motion(tmp_path / f"a{suffix}", joints)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.fbx", "a", ".npy", "a.npz.gz"])
def test_save_motion_rejects_unknown_formats(tmp_path, name):
    with pytest.raises(ExportError, match=r"name a \.npy, \.bvh, \.glb, \.npz, \.html, \.mp4, \.gif or \.png file"):
        save_motion(tmp_path / name, DANCE)


def test_save_motion_rejects_unwritable_places(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written to"):
        save_motion(tmp_path / "file" / "a.bvh", DANCE)
    (tmp_path / "a.bvh").mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        save_motion(tmp_path / "a.bvh", DANCE)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ExportError, match="cannot be written to"):
        save_motion(tmp_path / "b.bvh", DANCE)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fps": 0}, "fps must lie between 0.1 and 1000"),
        ({"fps": 1e9}, "fps must lie between"),
        ({"fps": 1e-9}, "fps must lie between"),
        ({"fps": float("nan")}, "fps"),
        ({"captions": ["one"]}, "1 captions for 2 motions"),
    ],
)
def test_save_motions_rejects_bad_options(tmp_path, changes, says):
    with pytest.raises(ExportError, match=says):
        save_motions(tmp_path / "a.bvh", [DANCE, DANCE], **changes)
    with pytest.raises(ExportError, match="motions of 21, 22 joints"):
        save_motions(tmp_path / "a.png", [DANCE, dancer(5, skeleton=KIT)])
    with pytest.raises(ExportError, match="no motions to save"):
        save_motions(tmp_path / "a.png", [])


def test_save_motion_warns_of_bones_that_change_their_lengths(tmp_path):
    growing = DANCE * np.linspace(1, 1.5, len(DANCE))[:, None, None]
    with pytest.warns(UserWarning, match="rigid bones move a joint by up to .* cm"):
        save_motion(tmp_path / "a.bvh", growing)
    with pytest.warns(UserWarning, match="many programs misread or refuse position channels"):
        save_motion(tmp_path / "b.bvh", growing, bones="stretch")
    save_motion(tmp_path / "b.glb", growing, bones="stretch")  # glTF states what translations mean
    with pytest.raises(ExportError, match=r"names 'maya' are unknown\. Choose one of: standard, mixamo, ue, unity"):
        save_motion(tmp_path / "c.bvh", DANCE, names="maya")


def test_save_motion_names_the_missing_encoder(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else found(name, *rest))
    with pytest.raises(ExportError, match=r"adaclip\[export\]"):
        save_motion(tmp_path / "a.mp4", DANCE)
    assert save_motion(tmp_path / "a.gif", DANCE).is_file()

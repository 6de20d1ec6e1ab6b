"""Pictures of bodies: where the joints are there is colour, the floor passes below, captions fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.render.film import Film
from adaqf_train.render.lettering import font, wrapped
from adaqf_train.render.stage import SMOOTH, Stage, hull
from adaqf_train.render.strip import strip
from tests.helpers import kit_body

SIZE = (240, 218)


def walker(frames: int = 30, speed: float = 1.0) -> np.ndarray:
    """A body of 22 joints that stands still and glides along +X."""
    pose = np.zeros((22, 3))
    for joint in range(1, 22):
        direction = np.array(HUMANML3D.rest_directions[joint], float)
        pose[joint] = pose[HUMANML3D.parents[joint]] + direction * HUMANML3D.bone_lengths[joint - 1]
    pose[:, 1] -= pose[:, 1].min() - 0.02
    shift = np.zeros((frames, 1, 3))
    shift[:, 0, 0] = speed * np.arange(frames) / 20
    return pose + shift


def coloured(image: Image.Image) -> np.ndarray:
    """Where a picture is neither sky, floor nor shadow: (H, W) bool."""
    pixels = np.asarray(image, int)
    return np.ptp(pixels, axis=-1) > 60


@pytest.mark.parametrize("joints", [walker(), kit_body(30) / 640], ids=["humanml3d", "kit"])
def test_bodies_stand_where_their_joints_are(joints):
    stage = Stage.around(joints, SIZE)
    image = Image.new("RGB", stage.floor().size, "magenta")
    stage.draw(image, joints[15])
    drawn = stage.finished(image)
    red, green, blue = np.moveaxis(np.asarray(drawn, int), -1, 0)
    changed = green > 0.3 * np.maximum(red, blue)  # neither the ground's colour nor a shadow on it
    places = np.rint(stage._seen(joints[15])[0] / SMOOTH).astype(int)
    assert (places >= 0).all()
    assert (places < SIZE).all()
    assert changed[places[:, 1], places[:, 0]].all()
    assert 0.01 < changed.mean() < 0.4  # control: the rest of the picture is as it was
    assert drawn.size == SIZE


def test_sides_have_their_colours():
    """The left hand is blue and the right one orange, from wherever the camera looks."""
    joints = walker()
    stage = Stage.around(joints, SIZE)
    image = stage.floor()
    stage.draw(image, joints[0])
    pixels = np.asarray(stage.finished(image), int)
    for name, blue in (("left_wrist", True), ("right_wrist", False)):
        x, y = np.rint(stage._seen(joints[0, [HUMANML3D.joints.index(name)]])[0][0] / SMOOTH).astype(int)
        red, _, b = pixels[y, x]
        assert (b > red + 40) == blue
        assert (red > b + 40) != blue


def test_near_limbs_hide_far_ones():
    """A body seen from its left: the left thigh covers the right one."""
    joints = walker(2, speed=0)
    view = {"yaw": np.pi / 2, "pitch": 0.0, "target": [0, 1, 0], "distance": 6.0, "ground": 2.0}
    for yaw, side in ((np.pi / 2, True), (-np.pi / 2, False)):
        stage = Stage(HUMANML3D, {**view, "yaw": yaw}, SIZE, 0.82)
        image = stage.floor()
        stage.draw(image, joints[0])
        x, y = np.rint(stage._seen(joints[0, [4, 5]].mean(axis=0)[None])[0][0] / SMOOTH).astype(int)
        red, _, blue = np.asarray(stage.finished(image), int)[y, x]
        assert (blue > red) == side


def test_hulls_hold_all_discs():
    rng = np.random.default_rng(0)
    centres, radii = rng.normal(size=(4, 2)), rng.uniform(0.1, 0.5, 4)
    outline = hull(centres, radii)
    for centre, radius in zip(centres, radii, strict=True):
        rim = centre + radius * np.stack([np.cos(a := np.linspace(0, 6.28, 50)), np.sin(a)], axis=1)
        for direction in np.stack([np.cos(a), np.sin(a)], axis=1):
            assert (rim @ direction).max() <= (outline @ direction).max() + 0.01


def test_films_show_every_motion_and_move():
    motions = [walker(30), walker(10), walker(20)]
    film = Film(motions, ["one", "", "three"], 20, width=200)
    assert len(film) == 30
    assert all(side % 2 == 0 for side in film[0].size)
    first, last = (np.asarray(film[frame], int) for frame in (0, 29))
    for panel in range(3):
        part = slice(200 * panel, 200 * (panel + 1))
        assert coloured(Image.fromarray(first[:, part].astype(np.uint8))).any()
        assert np.abs(first[:, part] - last[:, part]).sum(axis=-1).max() > 100
    held, later = (np.asarray(film[frame], int)[:-30, 200:400] for frame in (9, 25))
    np.testing.assert_array_equal(held, later)  # the short one holds its last pose
    with pytest.raises(IndexError):
        film[30]
    assert len(list(film)) == 30


def test_films_of_many_have_rows():
    wide, square = (Film([walker(3)] * count, [""] * count, 20, width=200)[0].size for count in (3, 4))
    assert wide[0] == 600
    assert square[0] == 400
    assert square[1] > 1.8 * wide[1]


def test_feet_leave_prints_where_they_stand():
    still, lifted = walker(20, speed=0), walker(20, speed=0)
    lifted[:, :, 1] += 0.3
    for joints, stands in ((still, True), (lifted, False)):
        film, unmarked = Film([joints], [""], 20), Film([joints], [""], 20)
        unmarked._panels[0].contacts = []
        assert (np.asarray(film[10]) != np.asarray(unmarked[10])).any() == stands


@pytest.mark.parametrize("joints", [walker(40), walker(1), kit_body(20) / 640])
def test_strips_have_a_row_for_each_motion(joints):
    one = strip([joints], ["a person walks"], 20)
    two = strip([joints, joints], ["a person walks", "and again, " * 60], 20)
    assert one.width == two.width
    assert two.height > 1.8 * one.height
    assert coloured(one).mean() > 0.01
    few = strip([joints], [""], 20, poses=4)
    assert few.width < 0.6 * one.width
    assert few.height < one.height  # no caption, no line


def test_strips_go_along_with_the_body():
    """Every pose of a glider is in the middle of its picture, and the floor's lines are elsewhere."""
    picture = strip([walker(40, speed=3.0)], [""], 20, poses=4)
    columns = np.flatnonzero(coloured(picture).any(axis=0))
    middles = [columns[(columns >= left) & (columns < left + 150)].mean() - left for left in range(14, 600, 154)]
    assert np.ptp(middles) < 6


def test_captions_are_wrapped_and_cut():
    text = "a person walks forward and then " * 20
    lines = wrapped(text, 17, 300, 3)
    assert len(lines) == 3
    assert all(font(17).getlength(line) <= 300 for line in lines)
    assert lines[-1].endswith("…")
    assert wrapped("a person bows", 17, 300, 3) == ["a person bows"]
    assert wrapped("", 17, 300, 3) == []
    (cut,) = wrapped("w" * 500, 17, 300, 3)
    assert cut.endswith("…")
    assert font(17).getlength(cut) <= 300

"""Pictures of bodies: where the joints are there is colour, the floor passes below, captions fit."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.render.camera import project
from adaqf_train.render.flesh import hull
from adaqf_train.render.pictures import WIDTH, Film, strip, wrapped
from adaqf_train.render.stage import AROUND, Stage
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


class Scene:
    """A stage that fills a picture of SIZE."""

    def __init__(self, joints: np.ndarray) -> None:
        figure = Figure(figsize=(SIZE[0] / 64, SIZE[1] / 64), dpi=64)
        self.canvas = FigureCanvasAgg(figure)
        self.stage = Stage(figure.add_axes((0, 0, 1, 1)), joints, 20)

    def pixels(self) -> np.ndarray:
        """(H, W, 3) int."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].astype(int)

    def places(self, points: np.ndarray) -> np.ndarray:
        """Columns and rows (N, 2) of points (N, 3)."""
        seen, _ = project(points, self.stage.view)
        width, height = SIZE
        return np.stack([width / 2 + height / 2 * seen[:, 0], height / 2 * (1 - seen[:, 1])], axis=1).astype(int)


@pytest.mark.parametrize("joints", [walker(), kit_body(30) / 640], ids=["humanml3d", "kit"])
def test_stage_draws_bodies_at_their_joints(joints):
    scene = Scene(joints)
    empty = scene.pixels()
    scene.stage.show_pose(joints[15])
    scene.stage.shadow.set_visible(False)
    changed = (scene.pixels() != empty).any(axis=-1)
    places = scene.places(joints[15])
    assert (places >= 0).all()
    assert (places < SIZE).all()
    assert changed[places[:, 1], places[:, 0]].all()
    assert 0.01 < changed.mean() < 0.4  # control: the rest of the picture is as it was
    assert empty.shape == (SIZE[1], SIZE[0], 3)


def test_stage_colours_left_and_right():
    """The left hand is blue and the right one orange, from wherever the camera looks."""
    joints = walker()
    scene = Scene(joints)
    scene.stage.show_pose(joints[0])
    pixels = scene.pixels()
    for name, blue in (("left_wrist", True), ("right_wrist", False)):
        ((x, y),) = scene.places(joints[0, [HUMANML3D.joints.index(name)]])
        red, _, b = pixels[y, x]
        assert (b > red + 40) == blue
        assert (red > b + 40) != blue


def test_stage_hides_far_limbs_behind_near_ones():
    """A body seen from its left: the left thigh covers the right one."""
    joints = walker(2, speed=0)
    for yaw, side in ((np.pi / 2, True), (-np.pi / 2, False)):
        scene = Scene(joints)
        scene.stage.view = {"yaw": yaw, "pitch": 0.0, "target": [0, 1, 0], "distance": 6.0, "ground": 2.0}
        scene.stage.show_pose(joints[0])
        ((x, y),) = scene.places(joints[0, [4, 5]].mean(axis=0)[None])
        red, _, blue = scene.pixels()[y, x]
        assert (blue > red) == side


def test_hull_holds_all_discs():
    rng = np.random.default_rng(0)
    centres, radii = rng.normal(size=(4, 2)), rng.uniform(0.1, 0.5, 4)
    outline, _ = hull(centres, radii, AROUND)
    for centre, radius in zip(centres, radii, strict=True):
        rim = centre + radius * np.stack([np.cos(a := np.linspace(0, 6.28, 50)), np.sin(a)], axis=1)
        for direction in np.stack([np.cos(a), np.sin(a)], axis=1):
            assert (rim @ direction).max() <= (outline @ direction).max() + 0.01


def test_film_shows_every_motion_and_moves():
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


def test_film_of_many_has_rows():
    wide, square = (Film([walker(3)] * count, [""] * count, 20, width=200)[0].size for count in (3, 4))
    assert wide[0] == 600
    assert square[0] == 400
    assert square[1] > 1.8 * wide[1]


def test_film_shows_footprints_of_standing_feet():
    still, lifted = walker(20, speed=0), walker(20, speed=0)
    lifted[:, :, 1] += 0.3
    for joints, stands in ((still, True), (lifted, False)):
        film, unmarked = Film([joints], [""], 20), Film([joints], [""], 20)
        unmarked._stages[0].contacts = []
        assert (np.asarray(film[10]) != np.asarray(unmarked[10])).any() == stands


@pytest.mark.parametrize("joints", [walker(40), walker(1), kit_body(20) / 640])
def test_strip_has_a_row_for_each_motion(joints):
    one = strip([joints], ["a person walks"], 20)
    two = strip([joints, joints], ["a person walks", "and again, " * 60], 20)
    assert one.width == two.width
    assert two.height > 1.8 * one.height
    assert coloured(one).mean() > 0.01
    few = strip([joints], [""], 20, poses=4)
    assert few.width < 0.6 * one.width
    assert few.height < one.height  # no caption, no line


def test_strip_camera_moves_with_the_body():
    """Every pose of a glider is in the middle of its picture, and the floor's lines are elsewhere."""
    picture = strip([walker(40, speed=3.0)], [""], 20, poses=4)
    columns = np.flatnonzero(coloured(picture).any(axis=0))
    middles = [columns[(columns >= left) & (columns < left + 150)].mean() - left for left in range(12, 600, 154)]
    assert np.ptp(middles) < 6


def test_film_is_deterministic():
    joints = walker(8)
    film = Film([joints], ["a person walks"], 20)
    forth = [np.asarray(film[frame]) for frame in range(8)]
    for frame in reversed(range(8)):  # a picture does not depend on those drawn before it
        np.testing.assert_array_equal(np.asarray(film[frame]), forth[frame])
    np.testing.assert_array_equal(np.asarray(Film([joints], ["a person walks"], 20)[3]), forth[3])


def test_captions_are_wrapped_and_cut():
    text = "a person walks forward and then " * 20
    lines = wrapped(text, 300)
    assert len(lines) == 3
    assert all(len(line) <= 300 / (16 * WIDTH) for line in lines)
    assert lines[-1].endswith("…")
    assert wrapped("a person bows", 300) == ["a person bows"]
    assert wrapped("", 300) == []


@pytest.mark.parametrize("caption", ["W" * 500, "a person walks forward and then " * 20, "人が歩く " * 50, "$x_1$ {5$"])
def test_captions_stay_above_their_motion(caption):
    """No caption reaches into the neighbour's, whatever its letters; none is read as TeX."""
    alone, beside = (
        np.asarray(Film([walker(2)] * 2, [caption, other], 20, width=300)[0], int) for other in ("", "a person bows")
    )
    dark = (alone < 120).all(axis=-1)[:80]
    assert dark[:, :300].any()
    assert not dark[:, 300:].any()
    assert (beside < 120).all(axis=-1)[:80, 300:].any()  # control
